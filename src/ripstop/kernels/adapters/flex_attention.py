"""Adapter to torch's FlexAttention (arXiv 2412.05496): sliding windows with sinks, packed documents too, in one fused kernel.

The mask is a function of two positions. On a GPU it is compiled into the kernel, and blocks that nobody sees are left out; on
a CPU torch computes the same without a kernel, slowly, which is there for comparison.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ripstop.ops.segments import Segments


def window_attention(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, window_size: int, sink_size: int, segments: Segments | None = None
) -> Tensor:
    """As `ops.window_attention` without a past: the queries are all positions, T = S."""

    def seen(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        within = (query - key < window_size) | ((key if segments is None else segments.position_BT[b, key]) < sink_size)
        if segments is not None:
            within = within & (segments.run_BT[b, query] == segments.run_BT[b, key])
        return (key <= query) & within

    n_time, device = q_BTHK.shape[1], q_BTHK.device
    attend, make_mask = _forms(device.type)
    mask = make_mask(seen, None if segments is None else q_BTHK.shape[0], None, n_time, n_time, device=device)
    q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BSGK.to(q_BTHK.dtype), v_BSGP.to(q_BTHK.dtype)))
    return attend(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)


@functools.cache
def _forms(device: str) -> tuple[Any, Any]:
    """Attention and mask: compiled on a GPU, which alone has the kernel."""
    if device != "cuda":
        return flex_attention, create_block_mask
    return torch.compile(flex_attention), torch.compile(create_block_mask)
