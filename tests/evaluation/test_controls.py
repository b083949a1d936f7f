"""Controls: each takes away what it says, one document at a time, keeps the questions, and depends on its seed alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig, training_batch
from ripstop.evaluation import controls
from ripstop.evaluation.controls import CONTROLS, Control
from ripstop.evaluation.recall import RecallConfig

anyone = pytest.mark.parametrize("control", CONTROLS)


@pytest.fixture
def decoder_batch() -> TokenBatch:
    """Five rows of 7 columns of context and 3 of questions, every token different."""
    tokens = torch.arange(1, 51).view(5, 10)
    targets = torch.full_like(tokens, IGNORE)
    targets[:, 7:] = 99
    return TokenBatch(tokens, targets, context_BT=(torch.arange(10) < 7).expand(5, -1))


@pytest.fixture
def source_batch() -> TokenBatch:
    """Three rows whose sources have 5, 3 and 4 tokens and then padding."""
    source = torch.arange(1, 16).view(3, 5)
    segments = (torch.arange(5) < torch.tensor([[5], [3], [4]])).long()
    tokens = torch.ones(3, 2, dtype=torch.int64)
    return TokenBatch(tokens, tokens, source_BS=source * segments, source_segments_BS=segments)


def packed_decoder() -> TokenBatch:
    """Two rows of packed documents; capitals are contexts, as `context_BT` marks them, not always at the start.

    row 0: document 1 = A A A q, document 2 = B B q, padding
    row 1: document 1 = q q (no context), document 2 = C C C q, and a document with the number 2 after a gap = D D
    """
    tokens = torch.tensor([[11, 12, 13, 1, 21, 22, 2, 0, 0], [3, 4, 31, 32, 33, 5, 0, 41, 42]])
    segments = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0, 0], [1, 1, 2, 2, 2, 2, 0, 2, 2]])
    context = (tokens > 10) & (segments > 0)
    return TokenBatch(tokens, torch.where(segments > 0, tokens, IGNORE), segments, context_BT=context)


def packed_sources() -> TokenBatch:
    """Row 0 holds the sources of documents 1 (three tokens) and 2 (one), row 1 that of document 1 (two), row 2 none."""
    source = torch.tensor([[11, 12, 13, 21], [31, 32, 0, 0], [0, 0, 0, 0]])
    segments = torch.tensor([[1, 1, 1, 2], [1, 1, 0, 0], [0, 0, 0, 0]])
    tokens = torch.tensor([[1, 1, 2], [1, 1, 0], [0, 0, 0]])
    return TokenBatch(tokens, tokens, tokens, source, segments)


@anyone
def test_questions_and_targets_stay(decoder_batch: TokenBatch, control: Control) -> None:
    changed = controls.apply(control, decoder_batch, seed=0)
    assert torch.equal(changed.tokens_BT[:, 7:], decoder_batch.tokens_BT[:, 7:])
    assert torch.equal(changed.targets_BT, decoder_batch.targets_BT)
    assert changed.tokens_BT.shape == decoder_batch.tokens_BT.shape


def test_own_changes_nothing(decoder_batch: TokenBatch, source_batch: TokenBatch) -> None:
    assert torch.equal(controls.apply("own", decoder_batch, 0).tokens_BT, decoder_batch.tokens_BT)
    assert torch.equal(controls.apply("own", source_batch, 0).source_BS, source_batch.source_BS)


def test_wrong_gives_every_row_another_rows_context(decoder_batch: TokenBatch) -> None:
    changed = controls.apply("wrong", decoder_batch, 0)
    assert torch.equal(changed.tokens_BT[1:, :7], decoder_batch.tokens_BT[:-1, :7])
    assert torch.equal(changed.tokens_BT[0, :7], decoder_batch.tokens_BT[-1, :7])


def test_wrong_source_brings_its_own_length(source_batch: TokenBatch) -> None:
    changed = controls.apply("wrong", source_batch, 0)
    assert changed.source_segments_BS.sum(1).tolist() == [4, 5, 3]
    assert torch.equal((changed.source_BS > 0).long(), changed.source_segments_BS)


def test_shuffled_keeps_the_tokens_and_the_padding(source_batch: TokenBatch) -> None:
    changed = controls.apply("shuffled", source_batch, 3)
    assert torch.equal(changed.source_BS.sort(1).values, source_batch.source_BS.sort(1).values)
    assert torch.equal((changed.source_BS > 0).long(), source_batch.source_segments_BS)
    assert not torch.equal(changed.source_BS, source_batch.source_BS)


def test_shuffled_is_a_function_of_its_seed(decoder_batch: TokenBatch) -> None:
    torch.manual_seed(1)
    first = controls.apply("shuffled", decoder_batch, 7).tokens_BT
    torch.manual_seed(2)
    assert torch.equal(controls.apply("shuffled", decoder_batch, 7).tokens_BT, first)
    assert not torch.equal(controls.apply("shuffled", decoder_batch, 8).tokens_BT, first)


def test_zero_leaves_the_length_visible(source_batch: TokenBatch) -> None:
    changed = controls.apply("zero", source_batch, 0)
    assert not changed.source_BS.any()
    assert torch.equal(changed.source_segments_BS, source_batch.source_segments_BS)


@pytest.mark.parametrize("layout", ["decoder", "seq2seq"])
def test_one_document_a_row_gives_what_it_always_gave(layout: str) -> None:
    """The rule for whole rows, written out: random numbers for the leading context alone, and the row before."""
    mqar = MqarConfig.parse({"n_keys": 20, "n_values": 20, "num_pairs": [2, 9], "layout": layout}, "data")
    for seed in range(20):
        batch = training_batch(mqar, 9, 13, seed, 0)
        n_context = batch.source_BS.shape[1] if layout == "seq2seq" else 19
        context = (batch.source_BS if layout == "seq2seq" else batch.tokens_BT)[:, :n_context]
        order = torch.rand(context.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)
        wanted = {"own": context, "zero": context * 0, "shuffled": context.gather(1, order), "wrong": context.roll(1, 0)}
        for control in CONTROLS:
            changed = controls.apply(control, batch, seed)
            if layout == "seq2seq":
                assert torch.equal(changed.source_BS, wanted[control]) and changed.tokens_BT is batch.tokens_BT
                assert torch.equal(changed.source_segments_BS, torch.ones_like(context))
            else:
                assert torch.equal(changed.tokens_BT, torch.cat([wanted[control], batch.tokens_BT[:, n_context:]], 1))


def test_packed_contexts_by_hand() -> None:
    batch = packed_decoder()
    assert controls.apply("own", batch, 0).tokens_BT.tolist() == batch.tokens_BT.tolist()
    assert controls.apply("zero", batch, 0).tokens_BT.tolist() == [[0, 0, 0, 1, 0, 0, 2, 0, 0], [3, 4, 0, 0, 0, 5, 0, 0, 0]]
    # A (3) <- C, the only other of three; B (2) <- D, C <- A, D <- B.
    wrong = controls.apply("wrong", batch, 0)
    assert wrong.tokens_BT.tolist() == [[31, 32, 33, 1, 41, 42, 2, 0, 0], [3, 4, 11, 12, 13, 5, 0, 21, 22]]
    places = [(0, slice(0, 3)), (0, slice(4, 6)), (1, slice(2, 5)), (1, slice(7, 9))]
    seen = set()
    for seed in range(30):
        shuffled = controls.apply("shuffled", batch, seed).tokens_BT
        assert torch.equal(shuffled[~batch.context_BT], batch.tokens_BT[~batch.context_BT])
        for row, columns in places:
            assert sorted(shuffled[row, columns].tolist()) == batch.tokens_BT[row, columns].tolist()
        seen.add(tuple(shuffled[0, :3].tolist()))
    assert len(seen) == 6  # every order of three


def test_padding_is_no_context_even_where_the_mask_says_so() -> None:
    batch = packed_decoder()
    careless = dataclasses.replace(batch, context_BT=batch.context_BT | (batch.segments_BT == 0))
    for control in CONTROLS:
        wanted = controls.apply(control, batch, 5).tokens_BT
        assert torch.equal(controls.apply(control, careless, 5).tokens_BT, wanted)


def test_packed_sources_by_hand() -> None:
    batch = packed_sources()
    # In order of the batch: 11 12 13 | 21 | 31 32; each gets the one before, and keeps its own number.
    wrong = controls.apply("wrong", batch, 0)
    assert wrong.source_BS.tolist() == [[31, 32, 11, 12, 13], [21, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert wrong.source_segments_BS.tolist() == [[1, 1, 2, 2, 2], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    for seed in range(20):
        shuffled = controls.apply("shuffled", batch, seed)
        assert sorted(shuffled.source_BS[0, :3].tolist()) == [11, 12, 13] and shuffled.source_BS[0, 3] == 21
        assert sorted(shuffled.source_BS[1, :2].tolist()) == [31, 32] and torch.equal(
            shuffled.source_segments_BS, batch.source_segments_BS
        )


def contexts_of(*rows: list[int]) -> TokenBatch:
    """One document a row: its context, then one question."""
    width = max(map(len, rows)) + 1
    tokens = torch.tensor([[*row, 9, *[0] * (width - len(row) - 1)] for row in rows])
    segments = torch.tensor([[1] * (len(row) + 1) + [0] * (width - len(row) - 1) for row in rows])
    context = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    return TokenBatch(tokens, torch.where(segments > 0, tokens, IGNORE), segments, context_BT=context)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        # The same length before all others, however near: 1 2 <- 7 8 past 3 4 5.
        ([[1, 2], [7, 8], [3, 4, 5]], [[7, 8], [1, 2], [7, 8, 7]]),
        # Else the shortest longer one, cut at its end; else the longest, repeated.
        ([[1], [2, 3, 4, 5], [6, 7, 8]], [[6], [6, 7, 8, 6], [2, 3, 4]]),
        # Never one that looks the same: 1 2 has a twin, and so does the start of 1 2 3.
        ([[1, 2], [1, 2], [1, 2, 3], [5, 6, 7, 8]], [[5, 6], [5, 6], [5, 6, 7], [1, 2, 3, 1]]),
    ],
)
def test_which_context_is_wrong(rows: list[list[int]], wanted: list[list[int]]) -> None:
    changed = controls.apply("wrong", contexts_of(*rows), 0).tokens_BT
    assert [row[: len(w)] for row, w in zip(changed.tolist(), wanted, strict=True)] == wanted
    assert [row[len(w)] for row, w in zip(changed.tolist(), wanted, strict=True)] == [9] * len(rows)


DOCUMENTS = st.lists(  # rows of documents, each (tokens of its context, tokens of its question)
    st.lists(st.tuples(st.lists(st.integers(1, 3), max_size=4), st.integers(0, 2)), max_size=3), min_size=1, max_size=4
)


def packed(rows: list[list[tuple[list[int], int]]]) -> tuple[TokenBatch, TokenBatch]:
    """As a decoder's batch and as one with sources."""
    width = 1 + max(sum(len(context) + question for context, question in row) for row in rows)
    tokens, segments, sources = ([[0] * width for _ in rows] for _ in range(3))
    context_mask = [[False] * width for _ in rows]
    source_segments = [[0] * width for _ in rows]
    for b, row in enumerate(rows):
        at, at_source = 0, 0
        for number, (context, question) in enumerate(row, 1):
            for token in context:
                tokens[b][at], segments[b][at], context_mask[b][at] = token, number, True
                sources[b][at_source], source_segments[b][at_source] = token, number
                at, at_source = at + 1, at_source + 1
            for _ in range(question):
                tokens[b][at], segments[b][at] = 9, number
                at += 1
    decoder, numbers = torch.tensor(tokens), torch.tensor(segments)
    held = TokenBatch(decoder, decoder, numbers, context_BT=torch.tensor(context_mask))
    return held, TokenBatch(decoder, decoder, numbers, torch.tensor(sources), torch.tensor(source_segments))


def by_document(tokens: Tensor, segments: Tensor, mask: Tensor) -> dict[tuple[int, int], tuple[int, ...]]:
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for b, (row, numbers, inside) in enumerate(zip(tokens.tolist(), segments.tolist(), mask.tolist(), strict=True)):
        for token, number, held in zip(row, numbers, inside, strict=True):
            if held and number:
                found[b, number] = (*found.get((b, number), ()), token)
    return found


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS, st.integers(0, 3))
def test_every_document_loses_its_own_context_and_no_other_place_changes(rows: Any, seed: int) -> None:
    decoder, source = packed(rows)
    own = by_document(decoder.tokens_BT, decoder.segments_BT, decoder.context_BT)
    assert own == by_document(source.source_BS, source.source_segments_BS, source.source_segments_BS > 0)
    for batch in (decoder, source):
        for control in CONTROLS:
            try:
                changed = controls.apply(control, batch, seed)
            except ConfigError as error:
                assert control == "wrong" and "needs another document" in str(error)
                continue
            if batch is decoder:
                assert torch.equal(changed.tokens_BT[~batch.context_BT], batch.tokens_BT[~batch.context_BT])
                found = by_document(changed.tokens_BT, batch.segments_BT, batch.context_BT)
            else:
                assert changed.tokens_BT is batch.tokens_BT
                found = by_document(changed.source_BS, changed.source_segments_BS, changed.source_segments_BS > 0)
            assert found.keys() == own.keys()
            for document, tokens in found.items():
                if control == "shuffled":
                    assert Counter(tokens) == Counter(own[document])
                if control == "zero":
                    assert tokens == (0,) * len(own[document])
                if control == "wrong":
                    others = [t for other, t in own.items() if other != document]
                    assert tokens != own[document]
                    if batch is source:
                        assert tokens in others
                    else:
                        assert tokens in [(t * 9)[: len(tokens)] for t in others]


def test_an_unknown_control_is_named_with_the_nearest() -> None:
    batch = TokenBatch(torch.ones(2, 3), torch.ones(2, 3), context_BT=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ConfigError, match="did you mean 'shuffled'"):
        controls.apply("shufled", batch, 0)  # type: ignore[arg-type]


def test_an_unknown_control_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match=r"study: controls\.1: .*'own', 'zero', 'shuffled' or 'wrong'.*'wrng'"):
        RecallConfig.parse({"controls": ["own", "wrng"]}, "study")


def test_a_batch_without_context_is_refused() -> None:
    for control in CONTROLS:
        with pytest.raises(ConfigError, match="mask of its context"):
            controls.apply(control, TokenBatch(torch.ones(2, 3), torch.ones(2, 3)), 0)


def test_wrong_needs_another_document(decoder_batch: TokenBatch) -> None:
    tokens, targets, context = (t[:1] for t in (decoder_batch.tokens_BT, decoder_batch.targets_BT, decoder_batch.context_BT))
    with pytest.raises(ConfigError, match="needs another document with another context"):
        controls.apply("wrong", TokenBatch(tokens, targets, context_BT=context), 0)
    same = contexts_of([1, 2], [1, 2])
    with pytest.raises(ConfigError, match="needs another document with another context"):
        list(controls.applied("wrong", [same, same]))


def test_a_batch_of_equal_contexts_takes_one_of_another_batch() -> None:
    """Test sets repeat themselves ("Amen."), and an evaluation must not fail by chance."""
    same, other = contexts_of([1, 2], [1, 2]), contexts_of([3, 4], [5, 6])
    for batches in ([same, other], [same, same, other], [other, same]):
        changed = list(controls.applied("wrong", batches))
        assert len(changed) == len(batches)
        for before, after in zip(batches, changed, strict=True):
            assert (before is same) == (after.tokens_BT[:, :2].tolist() == [[3, 4], [3, 4]])
    alone = contexts_of([7, 8])
    assert next(controls.applied("wrong", [alone, other])).tokens_BT[0].tolist() == [3, 4, 9]


def test_batches_are_seeded_by_their_number() -> None:
    batches = [contexts_of(list(range(1, 9)))] * 3
    changed = [batch.tokens_BT.tolist() for batch in controls.applied("shuffled", batches)]
    assert changed == [controls.apply("shuffled", batches[0], seed).tokens_BT.tolist() for seed in range(3)]
    assert changed[0] != changed[1] != changed[2]
