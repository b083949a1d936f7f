"""Cross-attention as a decoder calls it.

Arguments as in `ops.cross_attention`, with `backend` before them: auto, reference, torch, flash_attn.
"""

from __future__ import annotations

from torch import Tensor

from ripstop.kernels import attention, reads
from ripstop.kernels.backend import choose
from ripstop.ops import cross_attention as ops
from ripstop.ops.cross_attention import Laid

KERNEL = attention.KERNEL._replace(op="cross_attention")


def cross_attention(
    backend: str, q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, seen: Tensor | None, laid: Laid | None = None
) -> Tensor:
    """(B, T, H, P). laid: what `seen` says, for the kernel, which takes no masks."""
    reads.note("cross_attention", k_BSGK.shape[1], k_BSGK, v_BSGP)
    unfit = attention.flash_unfit(q_BTHK, v_BSGP)
    if seen is not None and laid is None:
        unfit = "takes no mask"
    name = choose(backend, KERNEL, q_BTHK.device, q_BTHK.dtype, unfit)
    if name == "flash_attn":
        from ripstop.kernels.adapters import flash_attn

        return flash_attn.cross_attention(q_BTHK, k_BSGK, v_BSGP, laid)
    if name == "reference":
        return ops.cross_attention_reference(q_BTHK, k_BSGK, v_BSGP, seen)
    return ops.cross_attention(q_BTHK, k_BSGK, v_BSGP, seen)
