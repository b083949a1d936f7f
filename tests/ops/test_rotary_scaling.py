"""Frequencies of RoPE: by hand, against transformers, and where scaling must change nothing."""

from __future__ import annotations

import math

import pytest
import torch

from ripstop.ops.rotary import rotate
from ripstop.ops.rotary_scaling import linear_frequencies, plain_frequencies, turn, yarn_frequencies, yarn_sharpening


def test_plain_and_linear_by_hand() -> None:
    assert plain_frequencies(6, 1000.0).tolist() == pytest.approx([1.0, 0.1, 0.01])
    assert linear_frequencies(6, 1000.0, 4.0).tolist() == pytest.approx([0.25, 0.025, 0.0025])


def test_yarn_by_hand() -> None:
    """K = 8, base 10: frequencies 10^(-k/4). In 20 pi positions the first turns 10 times, the second 5.6, then 3.2 and 1.8;
    turns of 10^(1 - j/4) lie at index j. From index 1 (5.6 turns) to 3 (1.8) the ramp is 0, 1/2, 1."""
    length, turns = 63, [10 ** (1 - k / 4) * 63 / (20 * math.pi) for k in range(4)]
    found = yarn_frequencies(8, 10.0, 4.0, length, beta_fast=turns[1] * 0.9, beta_slow=turns[3] * 1.1)
    kept = [10 ** (-k / 4) for k in range(4)]
    assert found.tolist() == pytest.approx([kept[0], kept[1], kept[2] * (1 / 2 + 1 / 8), kept[3] / 4])


def test_yarn_keeps_what_turns_often_and_interpolates_what_does_not() -> None:
    plain, length = plain_frequencies(64, 10000.0), 4096
    found = yarn_frequencies(64, 10000.0, 16.0, length, 32.0, 1.0)
    turns = length * plain / (2 * math.pi)
    assert torch.equal(found[turns > 64], plain[turns > 64]) and (turns > 64).sum() > 3
    torch.testing.assert_close(found[turns < 0.5], plain[turns < 0.5] / 16)
    ratio = plain / found
    assert (ratio.diff() >= -1e-12).all() and ratio.min() >= 1 and ratio.max() <= 16 + 1e-9
    torch.testing.assert_close(yarn_frequencies(64, 10000.0, 1.0, length, 32.0, 1.0), plain, rtol=1e-15, atol=0)


def test_yarn_where_every_frequency_turns_often() -> None:
    """In a million positions all four turn more than 32 times: none is interpolated."""
    assert torch.equal(yarn_frequencies(8, 100.0, 4.0, 2**20, 32.0, 1.0), plain_frequencies(8, 100.0))


def test_sharpening_by_hand() -> None:
    """The paper's 0.1 ln s + 1, and DeepSeek-V2's 0.0707 ln s + 1, squared."""
    assert yarn_sharpening(math.e, 1.0) == pytest.approx(1.21)
    assert yarn_sharpening(40.0, 0.707) == pytest.approx((0.0707 * math.log(40) + 1) ** 2)
    assert yarn_sharpening(1.0, 1.0) == yarn_sharpening(7.0, 0.0) == 1


def test_turning_by_plain_frequencies_is_rotate() -> None:
    x, position = torch.randn(2, 5, 3, 8, dtype=torch.float64), torch.tensor([[0, 1, 2, 3, 4], [9, 0, 1, 2, 7000]])
    angle = position.unsqueeze(-1) * plain_frequencies(8, 500.0)
    turned = turn(x, angle.cos().unsqueeze(-2), angle.sin().unsqueeze(-2))
    torch.testing.assert_close(turned, rotate(x, position, 500.0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize("base", [500.0, 10000.0])
@pytest.mark.parametrize(
    ("factor", "length", "fast", "slow"), [(4.0, 256, 32.0, 1.0), (40.0, 4096, 32.0, 1.0), (2.5, 50, 4.0, 0.5)]
)
def test_frequencies_are_those_of_transformers(
    width: int, base: float, factor: float, length: int, fast: float, slow: float
) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    def peer(**values: object) -> tuple[torch.Tensor, float]:
        rope = {"rope_theta": base, "factor": factor} | values
        config = LlamaConfig(hidden_size=2 * width, num_attention_heads=2, head_dim=width, rope_parameters=rope)
        return ROPE_INIT_FUNCTIONS[str(values["rope_type"])](config, "cpu")

    exact = {"rtol": 1e-5, "atol": 0.0, "check_dtype": False}  # theirs are in float32
    torch.testing.assert_close(linear_frequencies(width, base, factor), peer(rope_type="linear")[0], **exact)
    wanted, on_cosine_and_sine = peer(rope_type="yarn", original_max_position_embeddings=length, beta_fast=fast, beta_slow=slow)
    torch.testing.assert_close(yarn_frequencies(width, base, factor, length, fast, slow), wanted, **exact)
    assert yarn_sharpening(factor, 1.0) == pytest.approx(on_cosine_and_sine**2)
