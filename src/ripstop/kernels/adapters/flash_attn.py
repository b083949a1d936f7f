"""Adapter to flash-attn: causal or both ways, sliding windows without sinks, packed documents by their lengths.

Checked against the source of flash-attn 2.8.3.
"""

from __future__ import annotations

from typing import Any

import torch
from flash_attn import flash_attn_func, flash_attn_varlen_func
from torch import Tensor

from ripstop.ops.cross_attention import Laid
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
    # How many keys before and after its own place a query sees: itself is not counted, and -1 is all.
    window = (-1, -1) if window_size is None else (window_size - 1, 0)
    settings: dict[str, Any] = {"softmax_scale": scale, "causal": causal, "window_size": window}
    k_BSGK, v_BSGP = _alike(q_BTHK, k_BSGK, v_BSGP)
    if segments is None:
        return flash_attn_func(q_BTHK, k_BSGK, v_BSGP, **settings)
    # Every run, padding too, is one sequence of the batch laid end to end.
    q, k, v = (t.flatten(0, 1) for t in (q_BTHK, k_BSGK, v_BSGP))
    n_batch, n_time = segments.run_BT.shape
    y = flash_attn_varlen_func(q, k, v, segments.offsets, segments.offsets, n_time, n_time, **settings)
    return y.unflatten(0, (n_batch, n_time))


def cross_attention(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, laid: Laid | None) -> Tensor:
    """As `ops.cross_attention.cross_attention`; a sequence without keys gives zero by itself. laid: None: all see all."""
    k_BSGK, v_BSGP = _alike(q_BTHK, k_BSGK, v_BSGP)
    if laid is None:
        return flash_attn_func(q_BTHK, k_BSGK, v_BSGP, causal=False)
    (n_batch, n_queries), n_keys = q_BTHK.shape[:2], k_BSGK.shape[1]
    query_offsets = laid.query_offsets
    if query_offsets is None:
        query_offsets = torch.arange(n_batch + 1, dtype=torch.int32, device=q_BTHK.device) * n_queries
    k, v = (t.flatten(0, 1).index_select(0, laid.key_index) for t in (k_BSGK, v_BSGP))
    y = flash_attn_varlen_func(q_BTHK.flatten(0, 1), k, v, query_offsets, laid.key_offsets, n_queries, n_keys, causal=False)
    return y.unflatten(0, (n_batch, n_queries))


def _alike(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values in the queries' precision: a state is kept in that of the weights, which autocast does not touch."""
    return k.to(q.dtype), v.to(q.dtype)
