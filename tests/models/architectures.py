"""Small architectures with awkward sizes, which the tests of whole models share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ripstop.batch import Vocabulary
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig

VOCAB = 29
MIXERS: dict[str, Any] = {
    "M": {"kind": "mamba2", "d_state": 5, "head_dim": 12, "chunk_size": 4},
    "A": {"kind": "attention", "n_heads": 4, "n_kv_heads": 2},
    "C": {"kind": "attention", "n_heads": 2, "d_conv": 3, "rope": False},
    "W": {"kind": "sliding_window", "n_heads": 2, "window_size": 5, "sink_size": 2},
    "L": {"kind": "mla", "n_heads": 3, "kv_lora_rank": 7, "qk_nope_head_dim": 4, "qk_rope_head_dim": 6, "v_head_dim": 5},
    "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "d_state": 3, "head_dim": 12, "chunk_size": 4}},
    "E": {"kind": "attention", "n_heads": 3, "causal": False},
}
DECODERS: dict[str, dict[str, Any]] = {
    "recurrent": {"pattern": "MM"},
    "hybrid": {"pattern": "M(WA)C", "mlp": {"activation": "swiglu", "d_mlp": 31}, "tie_embeddings": True},
    "cycle": {"pattern": "WWLW", "mlp": {"d_mlp": 13}, "norm": {"kind": "dynamic_tanh"}, "tie_embeddings": True},
    "attention": {"pattern": "A2", "mlp": {"activation": "gelu", "expand": 1.5}},
}
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "first": {"encoder_pattern": "BE", "decoder_pattern": "M2", "cross_attention_positions": [0]},
    "hybrid": {
        "encoder_pattern": "BBEE",
        "decoder_pattern": "MWA",
        "cross_attention_positions": [2, 0],
        "n_cross_heads": 6,
        "n_cross_kv_heads": 2,
        "mlp": {"d_mlp": 17},
        "share_embeddings": False,
        "tie_embeddings": True,
        "source_summary": "mean",
    },
    "adaptive": {
        "n_encoder_layers": 2,
        "decoder_pattern": "M5",
        "cross_attention_positions": "adaptive",
        "adaptive": {"d_state": 4, "num_pairs": 29},
    },
    "summary": {
        "encoder_pattern": "B",
        "decoder_pattern": "MA",
        "cross_attention_positions": [],
        "source_summary": "mean",
    },
    "blind": {
        "encoder_pattern": "B",
        "decoder_pattern": "M",
        "cross_attention_positions": [],
        "share_embeddings": False,  # of no source: one table all the same
    },
}


def decoder_only(name: str) -> DecoderOnlyConfig:
    return DecoderOnlyConfig.parse({"d_model": 24, "mixers": MIXERS} | DECODERS[name], name)


def encoder_decoder(name: str) -> EncoderDecoderConfig:
    return EncoderDecoderConfig.parse({"d_model": 24, "mixers": MIXERS} | ENCODER_DECODERS[name], name)


ALL: dict[str, ModelConfig] = {f"decoder_only-{name}": decoder_only(name) for name in DECODERS} | {
    f"encoder_decoder-{name}": encoder_decoder(name) for name in ENCODER_DECODERS
}


def build(config: ModelConfig, seed: int = 0, vocab_size: int = VOCAB) -> Model:
    """In float64, every weight away from the values that hide mistakes (small embeddings, norms of one)."""
    torch.manual_seed(seed)
    model = config.build(Vocabulary(vocab_size)).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embedding" in name or "head" in name:
                weight.normal_()
            elif "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model


def tokens(*shape: int, seed: int = 0, vocab_size: int = VOCAB) -> Tensor:
    return torch.randint(1, vocab_size, shape, generator=torch.Generator().manual_seed(seed))
