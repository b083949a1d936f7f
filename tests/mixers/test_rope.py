"""Rope: no part of a checkpoint, exact in every precision, and whole after a model drawn on the meta device gets memory."""

from __future__ import annotations

import copy

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.mixers.rope import Rope
from ripstop.mixers.rope_scaling import ROPE_SCALINGS
from ripstop.mixers.rope_scaling.base import RopeScalingConfig
from ripstop.ops.rotary import rotate
from ripstop.ops.rotary_scaling import plain_frequencies

YARN = {"kind": "yarn", "factor": 8, "original_max_position_embeddings": 64}


def test_it_is_rotate() -> None:
    rope = Rope(8, 500.0).double()
    q, k, position = torch.randn(2, 5, 3, 8).double(), torch.randn(2, 5, 1, 8).double(), torch.arange(40, 45)
    for got, x in zip(rope(position, q, k), (q, k), strict=True):
        torch.testing.assert_close(got, rotate(x, position, 500.0), rtol=1e-9, atol=1e-9)


def test_linear_scaling_is_a_position_between() -> None:
    rope, x = Rope(8, 500.0, ROPE_SCALINGS.parse({"kind": "linear", "factor": 4})).double(), torch.randn(1, 1, 1, 8).double()
    (turned,) = rope(torch.tensor([12]), x)
    torch.testing.assert_close(turned, Rope(8, 500.0).double()(torch.tensor([3]), x)[0])


def test_its_frequencies_are_in_no_checkpoint() -> None:
    rope = Rope(8, 500.0)
    assert not rope.state_dict() and not list(rope.parameters()) and [n for n, _ in rope.named_buffers()] == ["frequency"]


@pytest.mark.parametrize("scaling", [None, YARN])
def test_a_cast_rounds_no_frequency(scaling: dict[str, object] | None) -> None:
    config = None if scaling is None else ROPE_SCALINGS.parse(scaling)
    exact = plain_frequencies(64, 10000.0) if config is None else config.frequencies(64, 10000.0)
    rope = Rope(64, 10000.0, config)
    for model in (rope.bfloat16(), rope.half().float(), copy.deepcopy(rope).to(torch.bfloat16)):
        assert model.frequency.dtype == torch.float32 and torch.equal(model.frequency, exact.float())
    assert torch.equal(rope.bfloat16().double().frequency, exact)
    x = torch.ones(1, 2, 1, 64, dtype=torch.bfloat16)
    near, far = Rope(64, 10000.0, config).bfloat16()(torch.tensor([4000, 4001]), x)[0][0]
    assert not torch.equal(near, far)


def test_a_model_drawn_on_the_meta_device_gets_its_frequencies_with_its_memory() -> None:
    with torch.device("meta"):
        rope = torch.nn.Sequential(Rope(8, 500.0))
    assert rope[0].frequency.is_meta
    torch.testing.assert_close(rope.to_empty(device="cpu")[0].frequency, plain_frequencies(8, 500.0).float())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "yran"}, "unknown kind 'yran'; did you mean 'yarn'?"),
        ({"kind": "linear", "factor": 0.5}, "linear: factor"),
        ({**YARN, "beta_slow": 32.0}, "beta_fast 32.0 must be greater than beta_slow 32.0"),
        ({"kind": "yarn", "factor": 4}, "original_max_position_embeddings: missing, add it"),
    ],
)
def test_mistakes_are_one_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ROPE_SCALINGS.parse(values)
    assert message in str(error.value)


def test_a_scaling_without_frequencies_says_so() -> None:
    class Unfinished(RopeScalingConfig):
        kind: str = "unfinished"

    assert Unfinished().sharpening() == 1
    with pytest.raises(NotImplementedError, match="Unfinished: a scaling of RoPE has to define frequencies"):
        Unfinished().frequencies(8, 100.0)
