"""Multi-head latent attention as mixers call it: expanded for many queries, absorbed for one.

Arguments as in `ops.latent_attention`, with `backend` before them: auto, reference, torch, flash_attn. Both note the cache as
what it is, one vector a token: the absorbed form reads nothing else of the past.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ripstop.kernels import attention, reads
from ripstop.kernels.backend import choose
from ripstop.ops import latent_attention as ops
from ripstop.ops.latent_attention import Up
from ripstop.ops.segments import Segments

KERNEL = attention.KERNEL._replace(op="latent_attention")


def expanded(backend: str, q_BTHK: Tensor, cache_BSr: Tensor, up: Up, scale: float, segments: Segments | None = None) -> Tensor:
    """(B, T, H, P)."""
    reads.note("latent", cache_BSr.shape[1], cache_BSr)
    name = choose(backend, KERNEL, q_BTHK.device, q_BTHK.dtype, _unfit(q_BTHK, up))
    if name == "flash_attn":
        from ripstop.kernels.adapters import flash_attn

        k_BSHK, v_BSHP = ops.expand(cache_BSr, up)
        v_BSHP = F.pad(v_BSHP, (0, q_BTHK.shape[-1] - up.value_width))  # it takes values as wide as keys
        return flash_attn.attention(q_BTHK, k_BSHK, v_BSHP, True, segments, scale=scale)[..., : up.value_width]
    form = ops.latent_attention_reference if name == "reference" else ops.expanded
    return form(q_BTHK, cache_BSr, up, scale, segments)


def absorbed(backend: str, q_BHK: Tensor, cache_BSr: Tensor, up: Up, scale: float) -> Tensor:
    """(B, H, P). Its products are the same on every device: only `reference`, which expands, is another form."""
    reads.note("latent", cache_BSr.shape[1], cache_BSr)
    if backend == "reference":
        return ops.latent_attention_reference(q_BHK.unsqueeze(1), cache_BSr, up, scale).squeeze(1)
    return ops.absorbed(q_BHK, cache_BSr, up, scale)


def _unfit(q_BTHK: Tensor, up: Up) -> str | None:
    """Why flash-attn cannot take heads of these widths."""
    width = q_BTHK.shape[-1]
    if up.value_width > width:
        return "needs values that are no wider than keys"
    return None if width <= 256 and width % 8 == 0 else f"has no head_dim {width}"
