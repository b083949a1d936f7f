"""Presets: each builds and weighs what it says, and takes further keys."""

from __future__ import annotations

from typing import Any

import pytest

from ripstop.config import ConfigError, Strict
from ripstop.models import MODELS
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.presets import PRESETS, lay_over
from ripstop.models.ratio import hybrid_pattern


def model(**values: Any) -> Any:
    return MODELS.parse(values, "params.yaml: model")


N_PARAMS = {
    "recall": 5_922_656,
    "recall_from_source": 7_912_896,
    "translator": 118_487_168,
    "translator_small": 25_588_548,
    "translator_base": 75_931_488,
    "translator_medium": 197_108_560,
    "translator_large": 397_443_424,
    "translator_base_transformer": 76_178_432,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_weighs_what_it_says(name: str) -> None:
    preset = PRESETS[name]
    assert model(preset=name).num_params(preset.vocab_size) == preset.n_params == N_PARAMS[name]


@pytest.mark.parametrize(
    ("size", "millions", "n_layers", "d_model"),
    [("small", 25, 6, 384), ("base", 77, 12, 512), ("medium", 200, 16, 768), ("large", 400, 24, 1024)],
)
def test_translators_are_of_their_size_and_of_the_default_ratio(size: str, millions: int, n_layers: int, d_model: int) -> None:
    found = model(preset=f"translator_{size}")
    assert abs(PRESETS[f"translator_{size}"].n_params / 1e6 / millions - 1) < 0.05
    assert (found.layout()["decoder"], found.d_model) == (hybrid_pattern(n_layers, "1:7"), d_model)
    assert found.mixers["M"].num_params(d_model) > 6 * d_model**2


def test_the_translator_of_attention_alone() -> None:
    found = model(preset="translator_base_transformer")
    assert abs(PRESETS["translator_base_transformer"].n_params / 77e6 - 1) < 0.05
    assert found.layout() == {"encoder": "E" * 6, "decoder": "A" * 12, "cross_attention_layers": list(range(12))}
    d, table = 512, 32_000 * 512
    layers = 6 * (4 + 6) * d * d + 12 * (4 + 4 + 6) * d * d  # attention, cross-attention, an mlp of width 2 d with its gate
    assert found.num_params(32_000) == table + layers + (6 * 2 + 12 * 3 + 2) * d


def test_an_encoder_may_read_in_one_direction() -> None:
    found = model(preset="translator_small", encoder_pattern="MMA")
    assert found.layout()["encoder"] == "MMA"


def test_the_weight_by_hand() -> None:
    """`recall`: two tables, and four layers of Mamba-2 with 8 heads of 64 and a state of 64."""
    channels = 512 + 2 * 64
    layer = 256 * (512 + channels + 8) + 512 * 256 + channels * 5 + 3 * 8 + 512
    assert 2 * 8192 * 256 + 4 * (layer + 256) + 256 == N_PARAMS["recall"]


def test_further_keys_are_laid_over() -> None:
    wider = model(preset="recall", pattern="MA", d_model=512, mixers={"M": {"d_state": 16}})
    assert isinstance(wider, DecoderOnlyConfig)
    assert (wider.d_model, wider.pattern) == (512, "MA")
    assert wider.mixers["M"].model_dump() == model(preset="recall").mixers["M"].model_dump() | {"d_state": 16}
    other = model(preset="recall", mixers={"M": {"kind": "attention", "n_heads": 2}})
    assert other.mixers["M"].model_dump()["n_heads"] == 2  # another kind replaces, and keeps no key of the old one
    moved = model(preset="translator", cross_attention_positions=[3])
    assert isinstance(moved, EncoderDecoderConfig) and moved.cross_attention_layers == [3]


def test_a_class_takes_its_presets_too_and_what_is_written_holds_none() -> None:
    config = DecoderOnlyConfig.parse({"preset": "recall"}, "c")
    assert config == model(preset="recall") == model(**config.model_dump(mode="json"))
    assert "preset" not in config.model_dump()
    assert PRESETS["recall"].values["mixers"]["M"]["d_state"] == 64  # not what was laid over it above


class Block(Strict):
    model: EncoderDecoderConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "translater"}, "params.yaml: model: preset 'translater' does not exist; did you mean 'translator'?"),
        ({"preset": ["recall"]}, "params.yaml: model: preset ['recall'] does not exist; did you mean 'recall'?"),
        ({"preset": "recall", "kind": "encoder_decoder"}, "preset 'recall' is of kind decoder_only, not encoder_decoder"),
        ({"preset": "recall", "d_modle": 8}, "d_modle: unknown key; did you mean 'd_model'?"),
        ({"preset": "recall", "d_model": 100}, "mixers.M: mamba2: expand * d_model = 200 must be a multiple of"),
        ({}, "params.yaml: model: needs a mapping with a 'kind'"),
    ],
)
def test_mistakes_are_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(**values)
    assert message in str(error.value)
    with pytest.raises(ConfigError, match="c: model: preset 'x' does not exist"):
        Block.parse({"model": {"preset": "x"}}, "c")


def test_lists_are_replaced_and_mappings_joined() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": {"kind": "m", "x": 1}}
    assert lay_over(below, {"a": {"y": [3]}, "b": {"kind": "n"}, "c": 0}) == {
        "a": {"x": 1, "y": [3]}, "b": {"kind": "n"}, "c": 0}  # fmt: skip
    assert lay_over(below, {"b": {"kind": "m", "z": 2}})["b"] == {"kind": "m", "x": 1, "z": 2}
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": {"kind": "m", "x": 1}}
