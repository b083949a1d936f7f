"""Presets: each builds and weighs what it says, and takes further keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.config import ConfigError, Strict
from ripstop.models import MODELS
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.presets import PRESETS, lay_over
from ripstop.models.ratio import hybrid_pattern
from ripstop.preset_table import lines


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
    "swa_mla_small": 150_055_936,
    "swa_mla_base": 398_922_752,
    "swa_mla_large": 808_343_808,
    "swa_mla_xl": 2_008_099_328,
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


LANGUAGE_MODELS = [("small", 150, 12, 1024), ("base", 400, 24, 1536), ("large", 800, 28, 2048), ("xl", 2000, 32, 4096)]


@pytest.mark.parametrize(("size", "millions", "n_layers", "d_model"), LANGUAGE_MODELS)
def test_language_models_are_of_their_size_and_cycle(size: str, millions: int, n_layers: int, d_model: int) -> None:
    preset = PRESETS[f"swa_mla_{size}"]
    found = model(preset=f"swa_mla_{size}")
    assert preset.vocab_size == 50_257, "the vocabulary of GPT-2"
    assert abs(preset.n_params / 1e6 / millions - 1) < 0.05
    assert (found.layout()["decoder"], found.d_model) == (("SSL" * n_layers)[:n_layers], d_model)
    window, latent = found.mixers["S"], found.mixers["L"]
    assert (window.window_size, window.sink_size) == (256, 4)
    assert (latent.kind, latent.kv_lora_rank, latent.qk_nope_head_dim, latent.qk_rope_head_dim) == ("mla", 256, 128, 64)
    assert (found.mlp.activation, found.tie_embeddings, found.norm.kind) == ("swiglu", True, "rms_norm")
    squashed = model(preset=f"swa_mla_{size}", norm={"kind": "dynamic_tanh"})
    n_norms = 2 * n_layers + 1
    assert squashed.num_params(50_257) == preset.n_params + n_norms * (d_model + 1)


@pytest.mark.parametrize(("size", "n_layers"), [(size, n_layers) for size, _, n_layers, _ in LANGUAGE_MODELS])
def test_language_models_weigh_and_cost_on_the_meta_device_what_they_say(size: str, n_layers: int) -> None:
    """All parameters of the built model; and what torch counts of a forward, within 1 %: equal, but for the half of the causal
    scores that plain products compute in vain. 256 tokens, which the window holds."""
    n_time = 256
    config = model(preset=f"swa_mla_{size}", mixers={letter: {"backend": "reference"} for letter in "SL"})
    with torch.device("meta"):
        built = config.build(Vocabulary(50_257))
        x_BT = torch.zeros(1, n_time, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            built(TokenBatch(x_BT, x_BT))
    assert sum(p.numel() for p in built.parameters()) == PRESETS[f"swa_mla_{size}"].n_params
    heads, n_latent = config.mixers["S"].n_heads, n_layers // 3
    a_pair = 2 * heads * ((n_layers - n_latent) * (128 + 128) + n_latent * (192 + 128))
    vain = a_pair * (n_time**2 - n_time * (n_time + 1) // 2)
    counted, said = counter.get_total_flops() - vain, n_time * config.flops_per_token(50_257, n_time)
    assert 0 <= counted - said < n_time  # flops per token are whole
    assert abs(said / counted - 1) < 0.01


def test_a_language_model_by_hand() -> None:
    """`swa_mla_small`: 8 layers of 8 heads of 128 over 2 of keys and values; 4 of 8 latent heads, of 192 and 128 numbers."""
    d = 1024
    window = d * (8 + 2 + 2) * 128 + 8 * 128 * d
    latent = d * 8 * 192 + d * (256 + 64) + 256 + 256 * 8 * (128 + 128) + 8 * 128 * d
    assert 50_257 * d + 8 * window + 4 * latent + 12 * 3 * d * 1728 + 25 * d == N_PARAMS["swa_mla_small"]


def test_the_table_says_what_each_weighs_and_costs() -> None:
    told, head, *rows = lines(600)
    assert told == "FLOPs per token, a mean over 600 tokens" and head.split()[2:] == ["parameters", "forward", "training"]
    assert [row.split()[0] for row in rows] == list(PRESETS)
    for row in rows:
        name, _, n_params, forward, training = row.split()
        said = model(preset=name).flops_per_token(PRESETS[name].vocab_size, 600)
        assert int(n_params.replace(",", "")) == N_PARAMS[name]
        assert float(forward) == pytest.approx(said, rel=1e-3) and float(training) == pytest.approx(3 * said, rel=1e-3)


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
