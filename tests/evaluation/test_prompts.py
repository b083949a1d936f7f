"""Contexts as a model has them, and the prompts among them that are worth their time."""

from __future__ import annotations

from typing import Any

import pytest
from models.architectures import ALL, VOCAB

from ripstop.config import ConfigError
from ripstop.evaluation.prompts import Prompts, Tokens, prompt_flops, tokens_of
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.decoder_only import DecoderOnlyConfig


def test_a_model_with_a_source_has_half_of_the_context_there() -> None:
    assert tokens_of(9, ALL["decoder_only-hybrid"]) == Tokens(9, None)
    assert tokens_of(9, ALL["encoder_decoder-first"]) == Tokens(5, 4)
    assert tokens_of(2, ALL["encoder_decoder-first"]) == Tokens(1, 1)
    assert tokens_of(9, ALL["encoder_decoder-blind"]) == Tokens(9, None)


def test_prompts_are_read_as_long_as_they_are_affordable() -> None:
    """One layer of attention of width 8: 4 maps of 8 x 8, scores and values of all pairs, a head of 5, of which each is 2."""
    config = DecoderOnlyConfig(d_model=8, pattern="A", mixers={"A": AttentionConfig(n_heads=1)})

    def by_hand(n: int) -> int:
        return 2 * (4 * 64 + 5 * 8) * n + 4 * 8 * n * (n + 1) // 2

    for n in (7, 8, 101):
        assert 0 <= by_hand(n) - prompt_flops(config, 5, n) < n  # a mean over n tokens, rounded down
    prompts = Prompts(contexts=[8, 64, 101], most_flops=prompt_flops(config, 5, 64))
    assert prompts.affordable(config, 5) == [8, 64]
    assert prompts.replace(most_flops=prompts.most_flops - 1).affordable(config, 5) == [8]
    assert prompts.replace(most_flops=1.0).affordable(config, 5) == [] == prompts.replace(contexts=[]).affordable(config, 5)


def test_a_source_costs_its_encoder() -> None:
    config = ALL["encoder_decoder-hybrid"]
    assert prompt_flops(config, VOCAB, 31) == 16 * config.flops_per_token(VOCAB, 16, 15)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"contexts": [8, 4]}, r"contexts \[8, 4\] do not rise; sort them, and name each once"),
        ({"contexts": [4, 4]}, "do not rise"),
        ({"contexts": [1]}, r"contexts\.0: input should be greater than or equal to 2"),
        ({"most_flops": 0.0}, "most_flops"),
    ],
)
def test_mistakes_are_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prompts.parse({"contexts": [4, 8], "most_flops": 1e6} | values, "prompts")
