"""Controls: each takes away what it says, keeps the questions, and depends on its seed alone."""

from __future__ import annotations

import pytest
import torch

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.evaluation import controls


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


@pytest.mark.parametrize("control", list(controls.CONTROLS))
def test_questions_and_targets_stay(decoder_batch: TokenBatch, control: str) -> None:
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


def test_an_unknown_control_is_named_with_the_nearest() -> None:
    batch = TokenBatch(torch.ones(2, 3), torch.ones(2, 3), context_BT=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ConfigError, match="did you mean 'shuffled'"):
        controls.apply("shufled", batch, 0)


def test_a_batch_without_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="mask of its context"):
        controls.apply("zero", TokenBatch(torch.ones(2, 3), torch.ones(2, 3)), 0)


def test_wrong_needs_a_second_row(decoder_batch: TokenBatch) -> None:
    tokens, targets, context = (t[:1] for t in (decoder_batch.tokens_BT, decoder_batch.targets_BT, decoder_batch.context_BT))
    with pytest.raises(ConfigError, match="needs another document with another context"):
        controls.apply("wrong", TokenBatch(tokens, targets, context_BT=context), 0)
