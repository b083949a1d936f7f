"""Natively sparse attention: a compressed view of the past, the blocks that it selects, and a window. arXiv 2502.11089."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from ripstop.config import ConfigError, Size
from ripstop.mixers.heads import HeadsConfig
from ripstop.mixers.nsa import compression
from ripstop.mixers.nsa.compression import Phi
from ripstop.mixers.nsa.mixer import NativeSparseAttention
from ripstop.mixers.nsa.teaching import TEACHINGS
from ripstop.mixers.nsa.teaching.base import TeachingConfig
from ripstop.mixers.nsa.teaching.none import NoTeachingConfig
from ripstop.mixers.nsa.trace import BRANCHES, Branch
from ripstop.ops.sparse_attention import Blocks


class NSAConfig(HeadsConfig):
    """Three branches with queries in common and keys and values of their own, each weighted by a gate.

    compress_block, compress_stride, select_block, n_selected: l, d, l', n of the paper; d divides l and l'. n_first, n_local:
    blocks among the n that are read whatever their scores. window_size: w. phi: from a block to its compressed key and value.
    gate: sigmoids apart, as in the paper, or a softmax over the branches; d_gate: width of the gates' hidden layer.
    rope: the branches whose queries and keys know positions; in the window alone, what was trained on short text holds on long
    text. teaching: how the selection, through which no gradient passes, is taught.
    """

    kind: Literal["nsa"] = "nsa"
    rope: tuple[Branch, ...] = BRANCHES  # type: ignore[assignment]
    compress_block: Size = 32
    compress_stride: Size = 16
    select_block: Size = 64
    n_selected: Size = 16
    n_first: int = Field(1, ge=0, le=2**10)
    n_local: int = Field(2, ge=1, le=2**10)
    window_size: int = Field(512, ge=1, le=2**20)
    phi: Phi = "mlp"
    gate: Literal["sigmoid", "softmax"] = "sigmoid"
    d_gate: Size = 32
    teaching: Annotated[TeachingConfig, TEACHINGS] = NoTeachingConfig()
    backend: Literal["auto", "reference", "torch", "triton"] = "auto"

    @model_validator(mode="after")
    def _blocks_fit(self) -> NSAConfig:
        for name, size in (("compress_block", self.compress_block), ("select_block", self.select_block)):
            if size % self.compress_stride:
                raise ConfigError(f"compress_stride {self.compress_stride} does not divide {name} {size}; choose one that does")
        if self.n_first + self.n_local > self.n_selected:
            raise ConfigError(
                f"n_selected {self.n_selected} is less than n_first {self.n_first} and n_local {self.n_local}; raise n_selected"
            )
        if len(set(self.rope)) < len(self.rope):
            raise ConfigError(f"rope names a branch twice: {', '.join(self.rope)}; name each once")
        return self

    @property
    def blocks(self) -> Blocks:
        return Blocks(
            self.compress_block, self.compress_stride, self.select_block, self.n_selected, self.n_first, self.n_local
        )  # fmt: skip

    def build(self, d_model: int) -> NativeSparseAttention:
        return NativeSparseAttention(self, d_model)

    def qkv_width(self, d_model: int) -> int:
        n_heads, n_kv_heads, head_dim = self.sizes(d_model)
        return (n_heads + 2 * len(BRANCHES) * n_kv_heads) * head_dim

    def num_params(self, d_model: int) -> int:
        n_heads, n_kv_heads, head_dim = self.sizes(d_model)
        n_gates = len(BRANCHES) * n_heads
        gate = self.d_gate * (d_model + 1) + n_gates * (self.d_gate + 1)
        return super().num_params(d_model) + gate + compression.num_params(self.phi, self.compress_block, n_kv_heads, head_dim)

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        n_keys = self.blocks.n_compressed(seq_len) + min(seq_len, self.compress_block - 1) + seq_len
        return self.past_bytes(d_model, n_keys + min(seq_len, self.window_size), dtype)

    def read_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        """Bytes of its state that the step of the `seq_len`-th token reads, activations in `dtype`."""
        n_blocks = self.blocks.n_selectable(seq_len)
        # Of the last block, its own, those up to itself.
        selected = min(self.n_selected, n_blocks) * self.select_block - (n_blocks * self.select_block - seq_len)
        recent = min(seq_len, self.compress_block) - 1
        n_keys = self.blocks.n_compressed(seq_len) + recent + selected + min(seq_len, self.window_size)
        return self.past_bytes(d_model, n_keys, dtype)

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        n_heads, n_kv_heads, head_dim = self.sizes(d_model)
        compressed = self.blocks.n_compressed(seq_len)
        phi = compressed * compression.flops_per_block(self.phi, self.compress_block, n_kv_heads, head_dim) // seq_len
        gate = 2 * self.d_gate * (d_model + len(BRANCHES) * n_heads)
        return self.attention_flops(d_model, self.pairs(seq_len), seq_len) + phi + gate

    def pairs(self, seq_len: int) -> int:
        """Pairs of a query and a key or compressed key of a sequence, all branches together."""
        rounds, rest = divmod(max(0, seq_len - self.compress_block + 1), self.compress_stride)
        compressed = self.compress_stride * rounds * (rounds + 1) // 2 + rest * (rounds + 1)
        # While all blocks are selected a query reads all; then n - 1 whole blocks, and its own up to itself.
        every = min(seq_len, self.n_selected * self.select_block)
        rounds, rest = divmod(seq_len - every, self.select_block)
        own = rounds * (self.select_block * (self.select_block + 1) // 2) + rest * (rest + 1) // 2
        selected = every * (every + 1) // 2 + (seq_len - every) * (self.n_selected - 1) * self.select_block + own
        full = min(seq_len, self.window_size)
        return compressed + selected + full * (full + 1) // 2 + (seq_len - full) * full
