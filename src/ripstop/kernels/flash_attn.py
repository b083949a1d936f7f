"""Adapter to flash-attn: causal or both ways, sliding windows without sinks, packed documents by their lengths.

Checked against the source of flash-attn 2.8.3. Imported only where `backend.choose` says so.
"""

from __future__ import annotations

from flash_attn import flash_attn_func, flash_attn_varlen_func
from torch import Tensor

from ripstop.ops.segments import Segments


def attention(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    causal: bool = True,
    segments: Segments | None = None,
    window_size: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """As `ops.softmax_attention.attention`, with the window of `window_attention`. With segments, T = S."""
    window = (-1, -1) if window_size is None else (window_size - 1, 0)
    if segments is None:
        return flash_attn_func(q_BTHK, k_BSGK, v_BSGP, softmax_scale=scale, causal=causal, window_size=window)
    n_batch, n_time = segments.run_BT.shape
    # Every run, padding too, is one sequence of the batch laid end to end.
    y_NHP = flash_attn_varlen_func(
        q_BTHK.flatten(0, 1),
        k_BSGK.flatten(0, 1),
        v_BSGP.flatten(0, 1),
        segments.offsets,
        segments.offsets,
        n_time,
        n_time,
        softmax_scale=scale,
        causal=causal,
        window_size=window,
    )
    return y_NHP.unflatten(0, (n_batch, n_time))
