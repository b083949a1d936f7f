"""Documents are told apart once a forward, however many layers read them."""

from __future__ import annotations

import pytest
import torch
from models.architectures import MIXERS, build, tokens
from torch import Tensor

from ripstop.batch import TokenBatch
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.ops import segments


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The segment numbers whose boundaries were looked for."""
    asked, true = [], segments.starts

    def starts(numbers_BT: Tensor) -> Tensor:
        asked.append(numbers_BT)
        return true(numbers_BT)

    monkeypatch.setattr(segments, "starts", starts)
    return asked


def test_sixteen_layers_look_for_boundaries_once(derived: list[Tensor]) -> None:
    model = build(DecoderOnlyConfig.parse({"d_model": 24, "mixers": MIXERS, "pattern": "(MACW)4"}, "test"))
    numbers_BT = torch.tensor([[1, 1, 2, 2, 2, 0]])
    model(TokenBatch(tokens(1, 6), tokens(1, 6), numbers_BT))
    assert len(derived) == 1 and derived[0] is numbers_BT


def test_source_and_target_are_two(derived: list[Tensor]) -> None:
    values = {"encoder_pattern": "(BE)4", "decoder_pattern": "(MA)4", "cross_attention_positions": [0, 3]}
    model = build(EncoderDecoderConfig.parse({"d_model": 24, "mixers": MIXERS} | values, "test"))
    target_BT, source_BT = torch.tensor([[1, 1, 2, 2, 2, 0]]), torch.tensor([[1, 2, 2, 2]])
    model(TokenBatch(tokens(1, 6), tokens(1, 6), target_BT, tokens(1, 4), source_BT))
    assert len(derived) == 2 and {id(numbers) for numbers in derived} == {id(target_BT), id(source_BT)}
