"""Models of equal size: widths worked out by hand, and what no width makes equal."""

from __future__ import annotations

from typing import Any

import pytest

from ripstop.config import ConfigError
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.equal_parameters import block_parameters, with_parameters_of

MIXERS = {
    "A": {"kind": "attention", "n_heads": 2},
    "G": {"kind": "attention", "n_heads": 2, "n_kv_heads": 1},
    "M": {"kind": "mamba2", "d_state": 16, "head_dim": 16},
}


def model(pattern: str, d_mlp: int = 32, **changes: Any) -> DecoderOnlyConfig:
    values = {"d_model": 16, "pattern": pattern, "mixers": MIXERS, "mlp": {"activation": "swiglu", "d_mlp": d_mlp}}
    return DecoderOnlyConfig.parse(values | changes, "test")


def test_the_mlp_makes_up_for_what_the_mixer_lacks() -> None:
    # four projections of 16 x 16, where grouped heads have two of 16 x 8; an mlp has 3 x 16 a unit of width, two norms 16 each
    base = model("A")
    assert block_parameters(base) == 4 * 256 + 48 * 32 + 2 * 16 + 16
    found = with_parameters_of(model("G"), base)
    # 256 fewer are 5.33 units: 5 of them, and 16 parameters are left
    assert found.mlp is not None and found.mlp.d_mlp == 37
    assert block_parameters(base) - block_parameters(found) == 16
    assert with_parameters_of(model("A", d_mlp=7), base) == base
    narrower = with_parameters_of(model("AA", d_mlp=99), model("GG"))
    assert narrower.mlp is not None and narrower.mlp.d_mlp == 27
    assert with_parameters_of(model("AA"), model("MM", d_mlp=40)).mlp.width(16) > 40  # type: ignore[union-attr]


def test_embeddings_are_no_part_of_it() -> None:
    assert block_parameters(model("A", tie_embeddings=True)) == block_parameters(model("A"))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (model("A", d_mlp=1), r"pattern 'AAA' has \d+ parameters in its blocks with an mlp of width 1, and 'A' has 1120: they"),
        (model("A", mlp=None), r"pattern 'AAA' has \d+ parameters in its blocks with an mlp of width 1"),
    ],
)
def test_what_no_width_makes_equal_is_one_sentence(other: DecoderOnlyConfig, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        with_parameters_of(model("AAA"), other)


def test_a_model_without_an_mlp_has_no_width() -> None:
    with pytest.raises(ConfigError, match="mlp: is none, and its width is what makes models equal in parameters"):
        with_parameters_of(model("A", mlp=None), model("A"))
