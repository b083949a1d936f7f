"""Sliding-window attention with sinks as mixers call it.

Arguments as in `ops.window_attention`, with `backend` before them: auto, reference, torch, flash_attn, flex.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.kernels import attention, reads
from ripstop.kernels.backend import choose
from ripstop.ops import window_attention as ops
from ripstop.ops.segments import Segments

KERNEL = attention.KERNEL._replace(op="window_attention")


def window_attention(
    backend: str,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    window_size: int,
    sink_size: int,
    segments: Segments | None = None,
    sinks: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """(B, T, H, P)."""
    reads.note("window", k_BSGK.shape[1], k_BSGK, v_BSGP)
    reads.note("window", sinks[0].shape[1] if sinks else 0, *(sinks or ()))
    if backend == "flex":
        if q_BTHK.device.type == "cpu" and torch.is_grad_enabled():
            raise ConfigError("backend 'flex' of window_attention trains on a GPU alone; set backend to 'auto'")
        from ripstop.kernels.adapters import flex_attention

        return flex_attention.window_attention(q_BTHK, k_BSGK, v_BSGP, window_size, sink_size, segments)
    unfit = "has no sinks" if sink_size else attention.flash_unfit(q_BTHK, v_BSGP)
    name = choose(backend, KERNEL, q_BTHK.device, q_BTHK.dtype, unfit)
    if name == "flash_attn":
        from ripstop.kernels.adapters import flash_attn

        return flash_attn.attention(q_BTHK, k_BSGK, v_BSGP, True, segments, window_size)
    inputs = (q_BTHK, k_BSGK, v_BSGP, window_size, sink_size, segments, sinks, first)
    return ops.window_attention_reference(*inputs) if name == "reference" else ops.window_attention(*inputs)
