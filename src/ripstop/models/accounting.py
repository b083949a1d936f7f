"""What a model weighs and costs: parameters by part, FLOPs per token, bytes of state."""

from __future__ import annotations

from typing import Any

import torch

from ripstop.models.base import ModelConfig

BACKWARD = 2
"""FLOPs of the backward pass for each of the forward: one product for the input's gradient, one for the weight's."""


def training_flops_per_token(config: ModelConfig, vocab_size: int, seq_len: int) -> int:
    """Forward and backward, without what activation checkpointing computes again."""
    return (1 + BACKWARD) * config.flops_per_token(vocab_size, seq_len)


def describe(config: ModelConfig, vocab_size: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """What is printed at the start of a run. FLOPs are a mean over `seq_len` tokens, the state is that after them."""
    parts = {part: n for part, n in config.params_by_part(vocab_size).items() if n}
    return {
        "kind": config.kind,
        "layout": config.layout(),
        "seq_len": seq_len,
        "parameters": config.num_params(vocab_size),
        "parameters_by_part": parts,
        "forward_flops_per_token": config.flops_per_token(vocab_size, seq_len),
        "training_flops_per_token": training_flops_per_token(config, vocab_size, seq_len),
        "state_bytes": config.state_bytes(seq_len, dtype),
        "state_dtype": str(dtype).removeprefix("torch."),
    }
