"""Sliding-window attention with sinks: exact recall of the near past in a memory of one size."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ripstop.kernels import attention, reads, window_attention
from ripstop.mixers.heads import HeadsConfig, HeadsMixer, write
from ripstop.ops.segments import Segments, without_padding


class WindowState(NamedTuple):
    """k, v: (B, slots, G, K), the sinks first, then a ring of the last positions; length: tokens read; conv: the
    convolution's past, empty without one."""

    k: Tensor
    v: Tensor
    length: int
    conv: Tensor

    @property
    def n_filled(self) -> int:
        """Slots in use, the first so many."""
        return min(self.length, self.k.shape[1])

    def filled(self) -> WindowState:
        return self._replace(k=self.k[:, : self.n_filled], v=self.v[:, : self.n_filled])


class SlidingWindowConfig(HeadsConfig):
    """A token sees the last `window_size` tokens, itself among them, and the first `sink_size` of its document.

    backend: flex is torch's FlexAttention in `forward`, for training on a GPU, and torch elsewhere.
    """

    kind: Literal["sliding_window"] = "sliding_window"
    window_size: int = Field(64, ge=1, le=2**20)
    sink_size: int = Field(0, ge=0, le=2**20)
    backend: Literal["auto", "reference", "torch", "flash_attn", "flex"] = "auto"

    def build(self, d_model: int) -> SlidingWindow:
        return SlidingWindow(self, d_model)

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        return self.past_bytes(d_model, min(seq_len, self.window_size + self.sink_size), dtype)

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        full = min(seq_len, self.window_size + self.sink_size)
        return self.attention_flops(d_model, full * (full + 1) // 2 + (seq_len - full) * full, seq_len)


class SlidingWindow(HeadsMixer):
    """Keys are rotated by their absolute position when they are written, so the order of the ring does not matter."""

    def __init__(self, config: SlidingWindowConfig, d_model: int):
        after_past = "torch" if config.backend == "flex" else config.backend
        super().__init__(config, d_model, after_past)
        self.after_past = after_past
        self.window_size, self.sink_size, self.backend = config.window_size, config.sink_size, config.backend

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        q, k, v = self.project(without_padding(x_BTD, segments), segments)
        y_BTHK = window_attention.window_attention(self.backend, q, k, v, self.window_size, self.sink_size, segments)
        return without_padding(self.combine(y_BTHK), segments)

    def init_state(self, batch_size: int, max_len: int) -> WindowState:
        k, v, conv = self.empty_past(batch_size, min(max_len, self.window_size + self.sink_size))
        return WindowState(k, v, 0, conv)

    def prefill(self, x_BTD: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:
        n_new, n_sinks = x_BTD.shape[1], min(self.sink_size, state.length)
        if n_new == 0:
            return x_BTD, state
        (q, k, v), conv = self.project_after(x_BTD, state.conv, state.length)
        # The window of the first new token, in order, and the sinks that lie before it.
        first = max(n_sinks, state.length - (self.window_size - 1))
        slots = self._slots(torch.arange(first, state.length, device=k.device), state)
        near_k, near_v = (torch.cat([old[:, slots].to(new.dtype), new], 1) for old, new in ((state.k, k), (state.v, v)))
        sinks = (state.k[:, :n_sinks].to(k.dtype), state.v[:, :n_sinks].to(v.dtype))
        inputs = (q, near_k, near_v, self.window_size, self.sink_size)
        y_BTHK = window_attention.window_attention(self.after_past, *inputs, None, sinks if state.length else None, first)
        return self.combine(y_BTHK), self._written(state, k, v)._replace(conv=conv)

    def step(self, x_BD: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:
        (q, k, v), conv = self.project_after(x_BD.unsqueeze(1), state.conv, state.length)
        state = self._written(state, k, v)._replace(conv=conv)
        # What the ring holds now is exactly what this token sees.
        held = state.filled()
        reads.of("window")
        y_BTHK = attention.attention(self.after_past, q, held.k, held.v, causal=False)
        return self.combine(y_BTHK).squeeze(1), state

    def _slots(self, position_T: Tensor, state: WindowState) -> Tensor:
        """Where positions are kept: the sinks at their own place, the others round and round behind them."""
        ring = max(1, state.k.shape[1] - self.sink_size)
        return torch.where(position_T < self.sink_size, position_T, self.sink_size + (position_T - self.sink_size) % ring)

    def _written(self, state: WindowState, k_BTGK: Tensor, v_BTGK: Tensor) -> WindowState:
        """The state after new keys and values, of which only sinks and the last window are kept."""
        n_slots, end = state.k.shape[1], state.length + k_BTGK.shape[1]
        if end > n_slots and n_slots < self.window_size + self.sink_size:
            raise ValueError(f"the state has room for {n_slots} tokens, {end} are needed: raise max_len")
        position_T = torch.arange(state.length, end, device=k_BTGK.device)
        kept = (position_T < self.sink_size) | (position_T >= end - self.window_size)
        slots = self._slots(position_T[kept], state)
        return state._replace(k=write(state.k, slots, k_BTGK[:, kept]), v=write(state.v, slots, v_BTGK[:, kept]), length=end)
