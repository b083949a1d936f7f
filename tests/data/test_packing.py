"""Packing: rows that hold every window once and nearly no padding, and the same loss as a row for each window."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.data import packing
from ripstop.data.batching import Sequences
from ripstop.data.document_stream import DocumentStream
from ripstop.data.packing import PackedStream, packed_batch, packed_rows
from ripstop.data.tokenizer import BOS, EOS, PAD
from ripstop.models.translator import TranslatorConfig

V = 40


def corpus(n: int = 600, seed: int = 0) -> dict[str, Sequences]:
    """Windows as in translation: 4 to 60 tokens, the target about as long as the source."""
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.lognormal(3.2, 0.5, n), 4, 60).astype(int)
    others = np.clip(lengths * generator.uniform(0.8, 1.3, n), 4, 60).astype(int)
    return {
        name: Sequences.of([*generator.integers(3, V, m - 1).tolist(), EOS] for m in sizes)
        for name, sizes in (("source", lengths), ("target", others))
    }


def test_first_fit_by_hand() -> None:
    """Rows of 10: the longest window first, each into the first row with room in both columns."""
    source, target = np.array([6, 3, 5, 4, 1]), np.array([2, 7, 5, 4, 1])
    # by their longer side: 1 (7), 0 (6), 2 (5), 3 (4), 4 (1); 0 joins 1, 3 and 4 join 2
    rows = packed_rows(np.arange(5), [source, target], 10)
    assert [row.tolist() for row in rows] == [[1, 0, 4], [2, 3]]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=60), st.integers(20, 50))
def test_every_window_once_and_no_row_too_long(sizes: list[tuple[int, int]], capacity: int) -> None:
    lengths = [np.array(column) for column in zip(*sizes, strict=True)]
    rows = packed_rows(np.arange(len(sizes)), lengths, capacity)
    assert sorted(int(i) for row in rows for i in row) == list(range(len(sizes)))
    assert all(column[row].sum() <= capacity for row in rows for column in lengths)
    # What stands in a later row had no room in an earlier one.
    for later, row in enumerate(rows):
        for window in row:
            assert all(any(c[before].sum() + c[window] > capacity for c in lengths) for before in rows[:later])


def test_a_window_longer_than_the_row() -> None:
    with pytest.raises(ConfigError, match=r"data\.pack: a row of 9 tokens does not hold a window of 12; raise it"):
        packed_rows(np.arange(2), [np.array([3, 12]), np.array([4, 5])], 9)


def test_pools_are_packed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [np.full(10, 4), np.full(10, 4)]
    monkeypatch.setattr(packing, "POOL", 3)
    order = np.arange(10)[::-1].copy()
    assert [sorted(row.tolist()) for row in packed_rows(order, lengths, 12)] == [[7, 8, 9], [4, 5, 6], [1, 2, 3], [0]]


def test_less_than_five_percent_of_an_epoch_is_padding() -> None:
    columns = corpus(4000)
    stream = PackedStream(columns, 4096, 0, 512)
    batches = [next(stream) for _ in stream._batches]
    assert all(batch.n_tokens <= 4096 for batch in batches)
    read = sum(batch.n_tokens for batch in batches)
    real = sum(int((batch.source_segments_BS != 0).sum() + (batch.segments_BT != 0).sum()) for batch in batches)
    assert real == sum(len(column.tokens) for column in columns.values())
    assert 1 - real / read < 0.05


def documents_of(batch: TokenBatch) -> Counter:
    """Every packed pair, as the tokens of both sides."""
    assert batch.source_BS is not None and batch.source_segments_BS is not None and batch.segments_BT is not None
    found: Counter = Counter()
    for x, s, y, t in zip(batch.source_BS, batch.source_segments_BS, batch.targets_BT, batch.segments_BT, strict=True):
        for n in range(1, int(s.max()) + 1):
            found[tuple(x[s == n].tolist()), tuple(y[t == n].tolist())] += 1
    return found


def test_an_epoch_holds_every_pair_once_and_resumes() -> None:
    columns = corpus()
    pairs = Counter((tuple(x), tuple(y)) for x, y in zip(columns["source"], columns["target"], strict=True))
    stream = PackedStream(columns, 600, 3, 120)
    states, batches, epochs = [], [], []
    for _ in range(2):
        count = Counter()
        for _ in range(len(stream._batches)):
            states.append(stream.state_dict())
            batches.append(next(stream))
            count += documents_of(batches[-1])
        epochs.append(count)
        states.append(stream.state_dict())
        batches.append(next(stream))
        stream.load_state_dict({"epoch": stream.epoch, "position": 0})
    assert epochs == [pairs, pairs]
    for position in (0, 7, len(states) - 1):
        resumed = PackedStream(columns, 600, 3, 120)
        resumed.load_state_dict(states[position])
        assert torch.equal(next(resumed).tokens_BT, batches[position].tokens_BT)
    other = PackedStream(columns, 600, 4, 120)
    assert not torch.equal(next(other).tokens_BT, batches[0].tokens_BT)


def test_a_row_by_hand() -> None:
    columns = {"source": Sequences.of([[5, EOS], [6, 7, EOS]]), "target": Sequences.of([[8, 9, EOS], [10, EOS]])}
    batch = packed_batch(columns, [np.array([1, 0]), np.array([0])])
    assert batch.source_BS.tolist() == [[6, 7, EOS, 5, EOS], [5, EOS, PAD, PAD, PAD]]
    assert batch.source_segments_BS.tolist() == [[1, 1, 1, 2, 2], [1, 1, 0, 0, 0]]
    assert batch.tokens_BT.tolist() == [[BOS, 10, BOS, 8, 9], [BOS, 8, 9, PAD, PAD]]
    assert batch.targets_BT.tolist() == [[10, EOS, 8, 9, EOS], [8, 9, EOS, IGNORE, IGNORE]]
    assert batch.segments_BT.tolist() == [[1, 1, 2, 2, 2], [1, 1, 1, 0, 0]]


@pytest.mark.parametrize("pattern", ["MM", "MA", "AA"])
def test_the_loss_of_every_token_is_as_in_a_row_of_its_own(pattern: str) -> None:
    """And so are the gradients: a training sees no difference but the speed."""
    mamba2 = {"kind": "mamba2", "d_state": 4, "head_dim": 8}
    mixers = {
        "B": {"kind": "bidirectional", "mixer": mamba2},
        "E": {"kind": "attention", "n_heads": 2, "causal": False},
        "M": mamba2,
        "A": {"kind": "attention", "n_heads": 2},
    }
    used = {letter: mixer for letter, mixer in mixers.items() if letter in "BE" + pattern}
    config = TranslatorConfig.parse(
        {"d_model": 16, "encoder_pattern": "BE", "decoder_pattern": pattern, "mixers": used, "n_cross_heads": 2,
         "cross_attention_positions": [0, 1], "share_embeddings": False, "embedding_std": 0.3},
        "model",
    )  # fmt: skip
    torch.manual_seed(0)
    model = config.build(Vocabulary(V)).double()
    columns = corpus(12)
    stream = PackedStream(columns, 10**6, 0, 150)
    packed, alone = next(stream), next(DocumentStream(columns, 10**6, 0))
    assert len(packed.tokens_BT) < len(alone.tokens_BT) == 12
    losses, gradients = [], []
    for batch in (packed, alone):
        model.zero_grad()
        asked_BT = batch.asked_BT
        loss = F.cross_entropy(model(batch, asked_BT), batch.targets_BT[asked_BT], reduction="sum")
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert_close(losses[0], losses[1], rtol=1e-9, atol=1e-9)
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, rtol=1e-7, atol=1e-8)
