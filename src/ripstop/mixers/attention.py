"""Softmax attention over the whole past, or both ways for an encoder: exact recall, and a memory that grows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.kernels import attention
from ripstop.mixers.heads import HeadsConfig, HeadsMixer, write
from ripstop.ops.segments import Segments, without_padding


class KVState(NamedTuple):
    """k, v: (B, max_len, G, K), of which `length` positions are filled; conv: the convolution's past, empty without one."""

    k: Tensor
    v: Tensor
    length: int
    conv: Tensor

    def filled(self) -> KVState:
        return self._replace(k=self.k[:, : self.length], v=self.v[:, : self.length])


class AttentionConfig(HeadsConfig):
    """`causal: false` attends both ways, as an encoder does; it then holds no state and cannot decode."""

    kind: Literal["attention"] = "attention"
    causal: bool = True
    backend: Literal["auto", "reference", "torch", "flash_attn"] = "auto"

    @model_validator(mode="after")
    def _convolution_is_causal(self) -> AttentionConfig:
        if not self.causal and self.d_conv:
            raise ConfigError("a short convolution looks back only; set d_conv: 0 where causal is false")
        return self

    @property
    def is_causal(self) -> bool:
        return self.causal

    def build(self, d_model: int) -> Attention:
        return Attention(self, d_model)

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        return self.past_bytes(d_model, seq_len, dtype) if self.causal else 0

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        seen = seq_len * (seq_len + 1) // 2 if self.causal else seq_len**2
        return self.attention_flops(d_model, seen, seq_len)


class Attention(HeadsMixer):
    """Multi-head attention with grouped keys and values, RoPE by position in the document, optional short convolution."""

    def __init__(self, config: AttentionConfig, d_model: int):
        super().__init__(config, d_model, config.backend)
        self.causal, self.backend = config.causal, config.backend

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        q, k, v = self.project(without_padding(x_BTD, segments), segments)
        y_BTHK = attention.attention(self.backend, q, k, v, self.causal, segments)
        return without_padding(self.combine(y_BTHK), segments)

    def init_state(self, batch_size: int, max_len: int) -> KVState:
        if not self.causal:
            raise ConfigError("attention: causal: false reads its sequence whole and has no state to decode from")
        k, v, conv = self.empty_past(batch_size, max_len)
        return KVState(k, v, 0, conv)

    def prefill(self, x_BTD: Tensor, state: KVState) -> tuple[Tensor, KVState]:
        n_new = x_BTD.shape[1]
        if n_new == 0:
            return x_BTD, state
        end = state.length + n_new
        if end > state.k.shape[1]:
            raise ValueError(f"the state has room for {state.k.shape[1]} tokens, {end} are needed: raise max_len")
        (q, k, v), conv = self.project_after(x_BTD, state.conv, state.length)
        new = slice(state.length, end)
        state = KVState(write(state.k, new, k), write(state.v, new, v), end, conv)
        y_BTHK = attention.attention(self.backend, q, state.k[:, :end], state.v[:, :end], causal=True)
        return self.combine(y_BTHK), state

    def step(self, x_BD: Tensor, state: KVState) -> tuple[Tensor, KVState]:
        y_BTD, state = self.prefill(x_BD.unsqueeze(1), state)
        return y_BTD.squeeze(1), state
