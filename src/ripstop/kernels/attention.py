"""Softmax attention as mixers call it, causal or both ways.

Arguments as in `ops.softmax_attention`, with `backend` before them: auto, reference, torch, flash_attn.
"""

from __future__ import annotations

from torch import Tensor

from ripstop.kernels import reads
from ripstop.kernels.backend import HALF, Kernel, choose
from ripstop.ops import softmax_attention
from ripstop.ops.segments import Segments

KERNEL = Kernel("attention", "flash_attn", "pip install --no-build-isolation flash-attn", HALF)


def attention(
    backend: str,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    causal: bool,
    segments: Segments | None = None,
) -> Tensor:
    """(B, T, H, P)."""
    reads.note("attention", k_BSGK.shape[1], k_BSGK, v_BSGP)
    name = choose(backend, KERNEL, q_BTHK.device, q_BTHK.dtype, flash_unfit(q_BTHK, v_BSGP))
    if name == "flash_attn":
        from ripstop.kernels.adapters import flash_attn

        return flash_attn.attention(q_BTHK, k_BSGK, v_BSGP, causal, segments)
    if name == "reference":
        n_queries, n_keys = q_BTHK.shape[1], k_BSGK.shape[1]
        seen = softmax_attention.visible(n_queries, n_keys, causal, segments, device=q_BTHK.device)
        return softmax_attention.attention_reference(q_BTHK, k_BSGK, v_BSGP, seen)
    return softmax_attention.attention(q_BTHK, k_BSGK, v_BSGP, causal, segments)


def flash_unfit(q_BTHK: Tensor, v_BSGP: Tensor) -> str | None:
    """Why flash-attn cannot take heads of this width."""
    head_dim = q_BTHK.shape[-1]
    if v_BSGP.shape[-1] != head_dim:
        return "needs values as wide as keys"
    return None if head_dim <= 256 and head_dim % 8 == 0 else f"has no head_dim {head_dim}"
