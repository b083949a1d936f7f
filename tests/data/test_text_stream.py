"""The stream of packed rows: one for any number of ranks, resumed at any number of them, and read ahead without a trace."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.packed_rows import PackedRows
from ripstop.data.text_stream import BackgroundStream, TextStream

N_ROWS, BLOCK, BATCH = 37, 8, 14
"""An epoch is no whole number of batches."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> PackedRows:
    """Row n predicts n + 3 everywhere, so that a batch says which rows it holds."""
    path = tmp_path_factory.mktemp("rows") / "train.rows"
    np.repeat(np.arange(3, N_ROWS + 3, dtype="<u2")[:, None], BLOCK, 1).tofile(path)
    return PackedRows(path, N_ROWS, BLOCK, np.dtype("<u2"))


def numbers(batch: TokenBatch) -> list[int]:
    return (batch.targets_BT[:, 0] - 3).tolist()


def read(stream: Any, n: int) -> list[list[int]]:
    return [numbers(next(stream)) for _ in range(n)]


def test_epochs_are_permutations_across_the_borders_of_batches(rows: PackedRows) -> None:
    stream = TextStream(rows, BATCH, seed=1)
    flat = list(itertools.chain.from_iterable(read(stream, 3 * N_ROWS)))  # 42 epochs
    epochs = [flat[i : i + N_ROWS] for i in range(0, len(flat) - N_ROWS, N_ROWS)]
    assert all(sorted(epoch) == list(range(N_ROWS)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == len(epochs), "every epoch has an order of its own"
    assert flat[:BATCH] != read(TextStream(rows, BATCH, seed=2), 1)[0]


def test_a_batch_larger_than_an_epoch(rows: PackedRows) -> None:
    stream = TextStream(rows, 3 * N_ROWS + 5, seed=1)
    small = TextStream(rows, 1, seed=1)
    assert read(stream, 1)[0] == [row for (row,) in read(small, 3 * N_ROWS + 5)]


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 7, 13])
def test_ranks_share_the_stream_without_rest(rows: PackedRows, n_ranks: int) -> None:
    """Union = stream, overlap = 0, in every batch and so at every moment."""
    whole = read(TextStream(rows, BATCH, seed=1), 9)
    parts = [read(TextStream(rows, BATCH, seed=1).shard(rank, n_ranks), 9) for rank in range(n_ranks)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(row for share in shares for row in share) == sorted(batch)
        assert sum(map(len, shares)) == BATCH and max(map(len, shares)) - min(map(len, shares)) <= 1
        assert [shares[i % n_ranks][i // n_ranks] for i in range(BATCH)] == batch


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
def test_two_ranks_resume_as_any_number(rows: PackedRows, n_ranks: int) -> None:
    whole = TextStream(rows, BATCH, seed=1)
    expected = read(whole, 9)
    two = [TextStream(rows, BATCH, seed=1).shard(rank, 2) for rank in range(2)]
    for stream in two:
        read(stream, 4)
    state = two[0].state_dict()
    assert state == two[1].state_dict() == {"tokens": 4 * BATCH * BLOCK}
    resumed = [TextStream(rows, BATCH, seed=1).shard(rank, n_ranks) for rank in range(n_ranks)]
    for stream in resumed:
        stream.load_state_dict(state)
    for batch in expected[4:]:
        shares = [numbers(next(stream)) for stream in resumed]
        assert [shares[i % n_ranks][i // n_ranks] for i in range(BATCH)] == batch
    assert all(stream.state_dict() == whole.state_dict() for stream in resumed)


def test_a_position_serves_another_size_of_batch(rows: PackedRows) -> None:
    stream = TextStream(rows, BATCH, seed=1)
    expected = list(itertools.chain.from_iterable(read(stream, 6)))
    other = TextStream(rows, 4, seed=1)
    other.load_state_dict({"tokens": 2 * BATCH * BLOCK})
    assert list(itertools.chain.from_iterable(read(other, 14))) == expected[2 * BATCH :]
    with pytest.raises(ValueError, match="a position of 12 tokens is none of rows of 8"):
        other.load_state_dict({"tokens": 12})


def test_ranks_that_cannot_be(rows: PackedRows) -> None:
    with pytest.raises(ConfigError, match=r"tokens_per_step: a batch of 14 rows of 8 tokens has none for some of 15 ranks;"):
        TextStream(rows, BATCH, seed=1).shard(0, 15)
    for rank in (-1, 2):
        with pytest.raises(ConfigError, match=f"rank {rank} of 2: there is no such rank"):
            TextStream(rows, BATCH, seed=1).shard(rank, 2)


def test_read_ahead_without_a_trace(rows: PackedRows) -> None:
    """The same batches; the state is of what was handed over, not of what was made; no random number is drawn."""
    plain = TextStream(rows, BATCH, seed=1)
    ahead = BackgroundStream(TextStream(rows, BATCH, seed=1), 2)
    random = torch.random.get_rng_state()
    for _ in range(8):
        for one, other in zip(vars(next(plain)).values(), vars(next(ahead)).values(), strict=True):
            assert (one is other is None) or torch.equal(one, other)
        assert ahead.state_dict() == plain.state_dict()
    assert torch.equal(random, torch.random.get_rng_state())
    state = ahead.state_dict()
    expected = read(ahead, 3)
    ahead.load_state_dict(state)
    assert read(ahead, 3) == expected
    shard = ahead.shard(1, 2)
    assert read(shard, 1) == read(plain.shard(1, 2), 4)[3:]


PROGRAM = """
import sys, hashlib, json, pathlib, numpy as np
from ripstop.data.packed_rows import PackedRows
from ripstop.data.text_stream import BackgroundStream, TextStream
path, state, log = map(pathlib.Path, sys.argv[1:4])
stream = BackgroundStream(TextStream(PackedRows(path, 37, 8, np.dtype("<u2")), 14, 1), 2)
if state.exists():
    stream.load_state_dict(json.loads(state.read_text()))
with log.open("a") as out:
    for _ in range(int(sys.argv[4])):
        batch = next(stream)
        out.write(hashlib.sha256(batch.tokens_BT.numpy().tobytes() + batch.targets_BT.numpy().tobytes()).hexdigest() + "\\n")
        out.flush()
        new = state.with_suffix(".new")
        new.write_text(json.dumps(stream.state_dict()))
        new.replace(state)
        print("batch", flush=True)
"""


def test_killed_and_resumed_reads_the_same_bytes(rows: PackedRows, tmp_path: Path) -> None:
    """kill -9 while threads read ahead: what follows is the sequence that was never stopped, byte for byte."""

    state, log = tmp_path / "state.json", tmp_path / "log"

    def start(n: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(rows._mapped.filename), str(state), str(log), str(n)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    killed = start(1000)
    assert killed.stdout is not None
    for _ in range(5):
        killed.stdout.readline()
    killed.kill()
    killed.wait()
    done = log.read_text().splitlines()
    position = json.loads(state.read_text())["tokens"] // (BATCH * BLOCK)
    assert 5 <= position <= len(done) < 1000
    log.write_text("".join(f"{line}\n" for line in done[:position]))  # a batch may lie behind the last state
    assert start(20).wait(120) == 0
    found = log.read_text().splitlines()
    stream = TextStream(rows, BATCH, seed=1)
    batches = [next(stream) for _ in range(position + 20)]
    expected = [hashlib.sha256(b.tokens_BT.numpy().tobytes() + b.targets_BT.numpy().tobytes()) for b in batches]
    assert found == [digest.hexdigest() for digest in expected]


@pytest.mark.gpu
def test_pinned_batches_go_to_the_device(rows: PackedRows) -> None:
    batch = next(BackgroundStream(TextStream(rows, BATCH, seed=1), 2, pin=True))
    assert batch.tokens_BT.is_pinned() and batch.targets_BT.is_pinned()
    assert numbers(batch.to("cuda")) == read(TextStream(rows, BATCH, seed=1), 1)[0]
