"""Cross-attention: a decoder reads the memory that an encoder left; its keys and values are computed once a source."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import ConfigError, Size, Strict
from ripstop.kernels import cross_attention
from ripstop.ops.cross_attention import Laid
from ripstop.ops.segments import Segments, without_padding


class Memory(NamedTuple):
    """What an encoder left: x_BSD, zero at padding; seen: bool, (B, 1, T or 1, S), None where all see all; laid: the same for
    kernels that take no masks, where it is known."""

    x_BSD: Tensor
    seen: Tensor | None
    laid: Laid | None = None


class MemoryState(NamedTuple):
    """Keys and values of the memory, each (B, S, G, K)."""

    k: Tensor
    v: Tensor


def remember(x_BSD: Tensor, source_segments: Segments | None, segments: Segments | None = None) -> Memory:
    """The memory as the decoder's positions see it.

    Padding (segment 0) is seen by none. With `segments`, document n of the decoder sees document n of the source;
    without, every position sees the whole source.
    """
    if source_segments is None:
        return Memory(x_BSD, None)
    seen = (source_segments.numbers_BT != 0).unsqueeze(1)
    if segments is not None:
        seen = seen & (source_segments.numbers_BT.unsqueeze(1) == segments.numbers_BT.unsqueeze(2))
    return Memory(without_padding(x_BSD, source_segments), seen.unsqueeze(1), Laid.of(source_segments, segments))


def mean_memory(memory: Memory) -> Tensor:
    """Mean of the memory over what each position sees, (B, T or 1, D); zero where it sees nothing."""
    if memory.seen is None:
        return memory.x_BSD.mean(1, keepdim=True)
    weight = memory.seen.squeeze(1).to(memory.x_BSD.dtype)
    return (weight @ memory.x_BSD) / weight.sum(-1, keepdim=True).clamp(min=1)


class CrossAttentionConfig(Strict):
    """Heads of the cross-attention. There are no positions in it: the memory brings its own."""

    n_heads: Size = 4
    n_kv_heads: Size | None = Field(None, description="heads of keys and values; none given: n_heads")
    backend: Literal["auto", "reference", "torch", "flash_attn"] = "auto"

    def sizes(self, d_model: int) -> tuple[int, int, int]:
        """n_heads, n_kv_heads and head_dim at width `d_model`; `ConfigError` where they do not fit together."""
        n_kv_heads = self.n_heads if self.n_kv_heads is None else self.n_kv_heads
        if self.n_heads % n_kv_heads:
            raise ConfigError(f"cross_attention: n_heads {self.n_heads} must be a multiple of n_kv_heads {n_kv_heads}")
        if d_model % self.n_heads:
            raise ConfigError(f"cross_attention: d_model {d_model} must be a multiple of n_heads {self.n_heads}")
        return self.n_heads, n_kv_heads, d_model // self.n_heads

    def build(self, d_model: int) -> CrossAttention:
        return CrossAttention(self, d_model)

    def num_params(self, d_model: int) -> int:
        _, n_kv_heads, head_dim = self.sizes(d_model)
        return 2 * d_model * d_model + 2 * d_model * n_kv_heads * head_dim

    def state_bytes(self, d_model: int, source_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        """Bytes of the keys and values of a source of `source_len` tokens."""
        _, n_kv_heads, head_dim = self.sizes(d_model)
        return 2 * source_len * n_kv_heads * head_dim * dtype.itemsize

    def flops(self, d_model: int, seq_len: int, source_len: int) -> int:
        """Of `seq_len` decoder tokens that read a source of `source_len`; its keys and values are computed once."""
        _, n_kv_heads, head_dim = self.sizes(d_model)
        memory = 4 * d_model * n_kv_heads * head_dim * source_len
        return (4 * d_model * d_model + 4 * d_model * source_len) * seq_len + memory


class CrossAttention(nn.Module):
    """Softmax attention over the memory. A position that sees nothing of it gets zero."""

    def __init__(self, config: CrossAttentionConfig, d_model: int):
        super().__init__()
        _, n_kv_heads, self.head_dim = config.sizes(d_model)
        self.backend = config.backend
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.kv_proj = nn.Linear(d_model, 2 * n_kv_heads * self.head_dim, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def residual_outputs(self) -> list[Tensor]:
        """As of a mixer: the weights whose products are the output's terms."""
        return [self.out_proj.weight]

    def init_state(self, memory: Memory) -> MemoryState:
        """Keys and values, computed once."""
        k, v = self.kv_proj(memory.x_BSD).unflatten(-1, (-1, self.head_dim)).chunk(2, 2)
        return MemoryState(k, v)

    def forward(self, x_BTD: Tensor, state: MemoryState, seen: Tensor | None = None, laid: Laid | None = None) -> Tensor:
        """`seen` and `laid`: which memory each position sees, as in `Memory`. The state stays as it is."""
        q_BTHK = self.q_proj(x_BTD).unflatten(-1, (-1, self.head_dim))
        y_BTHK = cross_attention.cross_attention(self.backend, q_BTHK, state.k, state.v, seen, laid)
        return self.out_proj(y_BTHK.flatten(2))
