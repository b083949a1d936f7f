"""Named architectures: `preset: <name>` among a model's values stands for those below, with its further keys laid over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ripstop.config import ConfigError, nearest, shown

MOVES_NO_NUMBER = "a preset stands resolved in the files that the stages read"


@dataclass(frozen=True)
class Preset:
    """values: of the model's configuration, `kind` included. n_params: of the model built for `vocab_size` token ids."""

    values: Mapping[str, Any]
    vocab_size: int
    n_params: int


def _translator(
    d_model: int, encoder_pattern: str, decoder_pattern: str, cross_attention: list[int], mlp_expand: float, n_params: int
) -> Preset:
    """A translator by its size; one table of 32,000 tokens for source, target and head."""
    heads, mamba2 = d_model // 64, {"kind": "mamba2", "d_state": 128, "head_dim": 64}
    mixers = {
        "B": {"kind": "bidirectional", "mixer": mamba2},
        "E": {"kind": "attention", "n_heads": heads, "causal": False},
        "M": mamba2,
        "A": {"kind": "attention", "n_heads": heads},
    }
    values = {
        "kind": "translator",
        "d_model": d_model,
        "encoder_pattern": encoder_pattern,
        "decoder_pattern": decoder_pattern,
        "mixers": {letter: mixer for letter, mixer in mixers.items() if letter in encoder_pattern + decoder_pattern},
        "mlp": {"activation": "swiglu", "expand": mlp_expand},
        "n_cross_heads": heads,
        "cross_attention_positions": cross_attention,
        "tie_embeddings": True,
    }
    return Preset(values, 32_000, n_params)


def _language_model(d_model: int, pattern: str, n_heads: int, d_mlp: int, n_params: int) -> Preset:
    """A language model of sliding windows (S) and latent attention (L) by its size; the vocabulary is GPT-2's.

    Heads are 128 wide, four of the window's share a key; the latents' have 64 rotated numbers more. The width of the mlp is
    what is left of the size at this depth and width.
    """
    mixers = {
        "S": {
            "kind": "sliding_window",
            "n_heads": n_heads,
            "n_kv_heads": n_heads // 4,
            "head_dim": 128,
            "window_size": 256,
            "sink_size": 4,
        },
        "L": {
            "kind": "mla",
            "n_heads": n_heads,
            "kv_lora_rank": 256,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
        },
    }
    values = {
        "kind": "decoder_only",
        "d_model": d_model,
        "pattern": pattern,
        "mixers": mixers,
        "mlp": {"activation": "swiglu", "d_mlp": d_mlp},
        "tie_embeddings": True,
    }
    return Preset(values, 50_257, n_params)


PRESETS: dict[str, Preset] = {
    # The recall studies in full size: 4 layers; the letters beside M are there for other patterns.
    "recall": Preset(
        {
            "kind": "decoder_only",
            "d_model": 256,
            "pattern": "MMMM",
            "mixers": {
                "M": {"kind": "mamba2", "d_state": 64, "head_dim": 64},
                "A": {"kind": "attention", "n_heads": 4},
                "C": {"kind": "attention", "n_heads": 4, "d_conv": 4},
                "W": {"kind": "sliding_window", "n_heads": 4, "d_conv": 4, "window_size": 128, "sink_size": 1},
            },
        },
        vocab_size=8192,
        n_params=5_922_656,
    ),
    # The same with the pairs in a source, read at the first layer.
    "recall_from_source": Preset(
        {
            "kind": "encoder_decoder",
            "d_model": 256,
            "encoder_pattern": "BB",
            "decoder_pattern": "MMMM",
            "mixers": {
                "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "d_state": 64, "head_dim": 64}},
                "M": {"kind": "mamba2", "d_state": 64, "head_dim": 64},
            },
            "n_cross_heads": 4,
            "cross_attention_positions": [0],
        },
        vocab_size=8192,
        n_params=7_912_896,
    ),
    # A translator of documents, one attention layer to three of Mamba-2.
    "translator": Preset(
        {
            "kind": "encoder_decoder",
            "d_model": 512,
            "encoder_pattern": "BBBBEBBE",
            "decoder_pattern": "(MMAM)4",
            "mixers": {
                "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "d_state": 128, "head_dim": 64}},
                "E": {"kind": "attention", "n_heads": 8, "causal": False},
                "M": {"kind": "mamba2", "d_state": 128, "head_dim": 64},
                "A": {"kind": "attention", "n_heads": 8},
            },
            "mlp": {"activation": "swiglu", "expand": 8 / 3},
            "n_cross_heads": 8,
            "cross_attention_positions": [0, 4, 8, 12],
        },
        vocab_size=16000,
        n_params=118_487_168,
    ),
    # Translators by size: one attention layer to seven of Mamba-2 (`ratio.hybrid_pattern`), the source read at every fourth
    # layer, or at every layer where all of them attend. Positions enter the attention layers alone, as rotations.
    "translator_small": _translator(384, "BBE", "MMMAMM", [0, 4], 0.5, 25_588_548),
    "translator_base": _translator(512, "BBBEBE", "MMMAMMMMMAMM", [0, 4, 8], 1.5, 75_931_488),
    "translator_medium": _translator(768, "BBBBEBBE", "M4AM7AM3", [0, 4, 8, 12], 1.3125, 197_108_560),
    "translator_large": _translator(1024, "BBBBEBBE", "M4AM7AM7AM3", [0, 4, 8, 12, 16, 20], 1.0, 397_443_424),
    "translator_base_transformer": _translator(512, "E6", "A12", list(range(12)), 2.0, 76_178_432),
    # Language models by size: two windows to one layer of latent attention. `norm: {kind: dynamic_tanh}` beside the preset
    # changes the norm.
    "swa_mla_small": _language_model(1024, "(SSL)4", 8, 1728, 150_055_936),
    "swa_mla_base": _language_model(1536, "(SSL)8", 12, 1536, 398_922_752),
    "swa_mla_large": _language_model(2048, "(SSL)9S", 16, 2304, 808_343_808),
    "swa_mla_xl": _language_model(4096, "(SSL)10SS", 16, 2816, 2_008_099_328),
}


def resolve(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without `preset`: the preset's own with the others laid over. Without the key they stay as they are."""
    own = dict(values)
    name = own.pop("preset", None)
    if name is None:
        return own
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"preset {shown(name)} does not exist{nearest(str(name), list(PRESETS))}")
    preset = PRESETS[name].values
    if own.get("kind", preset["kind"]) != preset["kind"]:
        raise ConfigError(f"preset {name!r} is of kind {preset['kind']}, not {own['kind']}; remove kind, or the preset")
    return lay_over(preset, own)


def lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mapping by mapping; a list, and a mapping of another `kind`, replaces what is there."""
    result = dict(below)
    for key, value in above.items():
        there = result.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping) and value.get("kind") in (None, there.get("kind")):
            value = lay_over(there, value)
        result[key] = value
    return result
