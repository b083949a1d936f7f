"""What the step of a decoder reads, by formula: its state, once and whole or as its mixers say, and its weights."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from ripstop.config import ConfigError
from ripstop.models.base import ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig
from ripstop.models.stack import StackPlan


@runtime_checkable
class ReadsPart(Protocol):
    """The configuration of a mixer whose step does not read its state once and whole, as those of all others do."""

    def read_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        """Bytes of one sequence's state that the step of its `seq_len`-th token reads, activations in `dtype`."""


def read_bytes(config: ModelConfig, seq_len: int, dtype: torch.dtype, source_len: int | None = None) -> int:
    """Bytes of one sequence's state that the step of its `seq_len`-th token reads; its own key and value are read too."""
    stack = decoder(config)
    total = config.state_bytes(seq_len, dtype, source_len)
    for mixer in stack.mixers:
        if isinstance(mixer, ReadsPart):
            read, held = (size(stack.d_model, seq_len, dtype) for size in (mixer.read_bytes, mixer.state_bytes))
            total += read - held
    return total


def step_parameters(config: ModelConfig, vocab_size: int) -> int:
    """Parameters of the decoder and of its head, all of which a step multiplies with but for those that read a source."""
    parts = config.params_by_part(vocab_size)
    head = parts["head"] or parts["embedding"]  # a tied one is the embedding
    return head + sum(n for part, n in parts.items() if part not in ("embedding", "encoder", "source_summary", "head"))


def decoder(config: ModelConfig) -> StackPlan:
    """The blocks that a step goes through."""
    if isinstance(config, DecoderOnlyConfig):
        return config.stack
    if isinstance(config, EncoderDecoderConfig):
        return config.decoder
    raise ConfigError(f"model {config.kind} is no decoder whose steps can be counted; use decoder_only or encoder_decoder")
