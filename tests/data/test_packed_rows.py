"""Packed rows: every token once and next to no padding; documents told apart by what the rows themselves say."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ripstop.batch import IGNORE
from ripstop.config import ConfigError
from ripstop.data import packed_rows
from ripstop.data.packed_rows import PackedRows, RowWriter, batch_of, best_fit, row_dtype
from ripstop.data.tokenizer import BOS, EOS, PAD

U2 = np.dtype("<u2")


def test_best_fit_by_hand() -> None:
    """Rows of 10. 7 and 6 open rows with room for 3 and 4; 3 goes where it fills, not into the first with room (4)."""
    assert best_fit([6, 7, 3, 3, 1, 10], 10) == [[5], [1, 2], [0, 3, 4]]
    assert best_fit([6, 3, 5, 4, 1], 10) == [[0, 3], [2, 1, 4]]
    assert best_fit([], 10) == []


@given(st.lists(st.integers(1, 20), max_size=80), st.integers(20, 30))
def test_best_fit_is_the_slow_search(lengths: list[int], capacity: int) -> None:
    rows: list[list[int]] = []
    for piece in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        rooms = [capacity - sum(lengths[i] for i in row) for row in rows]
        holding = [room for room in rooms if room >= lengths[piece]]
        if holding:
            # of several rows with the same room it does not matter which: compared by their contents below
            rows[rooms.index(min(holding))].append(piece)
        else:
            rows.append([piece])
    found = best_fit(lengths, capacity)
    assert sorted(piece for row in found for piece in row) == list(range(len(lengths)))
    assert sorted(sum(lengths[i] for i in row) for row in found) == sorted(sum(lengths[i] for i in row) for row in rows)


def written(documents: list[list[int]], block_size: int) -> np.ndarray:
    file = io.BytesIO()
    writer = RowWriter(file, block_size, U2)
    for document in documents:
        writer.add(document, 0)
    writer.close()
    return np.frombuffer(file.getvalue(), U2).reshape(-1, block_size)


def test_rows_by_hand() -> None:
    """Rows of 5. The document of 6 tokens (7 with EOS) fills one and leaves a piece of 2, which finds the one of 3."""
    rows = written([[10, 11, 12, 13, 14, 15], [20, 21], [30, 31, 32]], 5)
    assert rows.tolist() == [[10, 11, 12, 13, 14], [30, 31, 32, EOS, PAD], [20, 21, EOS, 15, EOS]]


def test_a_batch_by_hand() -> None:
    targets_BT = torch.tensor([[10, 11, 12, 13, 14], [30, 31, 32, EOS, PAD], [20, 21, EOS, 15, EOS]])
    batch = batch_of(targets_BT)
    assert batch.tokens_BT.tolist() == [[BOS, 10, 11, 12, 13], [BOS, 30, 31, 32, PAD], [BOS, 20, 21, BOS, 15]]
    assert batch.targets_BT.tolist() == [[10, 11, 12, 13, 14], [30, 31, 32, EOS, IGNORE], [20, 21, EOS, 15, EOS]]
    assert batch.segments_BT is not None
    assert batch.segments_BT.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 2, 2]]
    together = batch_of(targets_BT, isolate=False)
    assert together.segments_BT is not None
    assert together.segments_BT.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert torch.equal(together.tokens_BT, batch.tokens_BT) and torch.equal(together.targets_BT, batch.targets_BT)
    assert targets_BT.tolist()[1][4] == PAD, "what is handed in stays as it is"


@given(st.lists(st.lists(st.integers(3, 40), min_size=1, max_size=30), min_size=1, max_size=40), st.integers(4, 12))
def test_every_document_can_be_read_again(documents: list[list[int]], block_size: int) -> None:
    """All pieces are there once; those of a long document are whole rows, but for the last."""
    batch = batch_of(torch.from_numpy(written(documents, block_size).astype(np.int64)))
    pieces = []
    assert batch.segments_BT is not None
    for tokens, targets, segments in zip(batch.tokens_BT, batch.targets_BT, batch.segments_BT, strict=True):
        for number in range(1, int(segments.max()) + 1):
            read, piece = tokens[segments == number].tolist(), targets[segments == number].tolist()
            assert read == [BOS, *piece[:-1]]
            pieces.append(piece)
    wanted = []
    for document in documents:
        ended = [*document, EOS]
        wanted += [ended[i : i + block_size] for i in range(0, len(ended), block_size)]
    assert sorted(pieces) == sorted(wanted)


def test_the_writer_counts_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pools, too: here a pool is full after two documents."""
    monkeypatch.setattr(packed_rows, "POOL", 8)
    file, extra = io.BytesIO(), io.BytesIO()
    writer = RowWriter(file, 6, U2, extra)
    for size in (3, 4, 2, 9):
        writer.add([7] * size, 2 * size, [2] * size)
    writer.close()
    assert (writer.n_documents, writer.n_bytes, writer.n_tokens, writer.n_pieces) == (4, 36, 22, 5)
    rows = np.frombuffer(file.getvalue(), U2).reshape(-1, 6)
    assert writer.n_rows == len(rows) == 5 and writer.padding == 1 - 22 / 30
    assert sorted((row != PAD).sum() for row in rows) == [3, 4, 4, 5, 6]
    sizes = np.frombuffer(extra.getvalue(), U2).reshape(-1, 6)
    assert np.array_equal(sizes, np.where(rows == 7, 2, 0))
    assert writer.sha256.digest() != hashlib.sha256().digest()


def test_documents_as_long_as_prose_leave_less_than_a_hundredth() -> None:
    generator = np.random.default_rng(0)
    file = io.BytesIO()
    writer = RowWriter(file, 512, U2)
    for size in np.clip(generator.lognormal(5, 1, 3000), 5, 4000).astype(int):
        writer.add([3] * int(size), 0)
    writer.close()
    assert writer.padding < 0.01


def test_rows_of_a_file(tmp_path: Path) -> None:
    rows = written([[10, 11, 12, 13, 14, 15], [20, 21], [30, 31, 32]], 5)
    path = tmp_path / "train.rows"
    rows.tofile(path)
    found = PackedRows(path, 3, 5, U2)
    assert len(found) == 3 and found.block_size == 5
    assert found[np.array([2, 0, 2])].tolist() == rows[[2, 0, 2]].tolist()
    assert found[np.array([0])].dtype == torch.int64
    for n_rows, dtype in ((4, U2), (3, np.dtype("<u4")), (0, U2)):
        with pytest.raises(ConfigError, match=rf"train\.rows: is not the file of {n_rows} rows that data\.json describes; run"):
            PackedRows(path, n_rows, 5, dtype)
    with pytest.raises(ConfigError, match=r"valid\.rows: is not the file"):
        PackedRows(tmp_path / "valid.rows", 1, 5, U2)


def test_the_smallest_numbers_that_hold_every_id() -> None:
    assert [row_dtype(size).str for size in (259, 65536, 65537)] == ["<u2", "<u2", "<u4"]
