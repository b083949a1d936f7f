"""Natively sparse attention as mixers call it: compressed branch with its selection, selected branch, window, and their sum.

Arguments as in `ops.sparse_attention`, with `backend` before them: auto, reference, torch, triton. `auto` takes the Triton
kernels (`kernels.triton`) on a device, and from a length on, where they were measured to pay (`kernels.measured.selection`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ripstop.kernels import attention, reads
from ripstop.kernels import window_attention as windows
from ripstop.kernels.backend import HALF, Kernel, choose
from ripstop.kernels.measured.selection import NEVER, Part, kernels_pay_from
from ripstop.ops import compressed_attention
from ripstop.ops import selected_attention as selected
from ripstop.ops import sparse_attention as reference
from ripstop.ops.segments import Segments
from ripstop.ops.sparse_attention import Blocks, Documents

KERNEL = Kernel("sparse_attention", "triton", "pip install triton", (*HALF, torch.float32))


def compress_and_select(
    backend: str,
    q_BTHK: Tensor,
    k_BNGK: Tensor,
    v_BNGP: Tensor,
    blocks: Blocks,
    n_past: int = 0,
    documents: Documents | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, T, H, P), selected blocks (B, T, G, n) and their importance (B, T, G, n)."""
    reads.note("compressed", k_BNGK.shape[1], k_BNGK, v_BNGP)
    inputs = (q_BTHK, k_BNGK, v_BNGP, blocks, n_past, documents)
    form = _form(backend, q_BTHK, v_BNGP, n_past + q_BTHK.shape[1])
    if form == "triton":
        from ripstop.kernels.triton import sparse_attention as kernels

        return kernels.compress_and_select(*inputs)
    if form != "reference":
        return compressed_attention.compress_and_select(*inputs)
    n_groups, n_time = k_BNGK.shape[2], q_BTHK.shape[1]
    y_BTHP, weights_BTHN = reference.compressed_attention_reference(*inputs)
    importance_BTGM = reference.importance_reference(weights_BTHN, n_groups, blocks, n_past, documents)
    position = reference.position_of(n_time, n_past, documents, q_BTHK.device)
    ids_BTGn = reference.select_reference(importance_BTGM, blocks, position)
    importance_BTGn = importance_BTGM.gather(-1, ids_BTGn.clamp(min=0).long()).masked_fill(ids_BTGn < 0, 0)
    return y_BTHP, ids_BTGn, importance_BTGn


def selected_attention(
    backend: str,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    ids_BTGn: Tensor,
    select_block: int,
    documents: Documents | None = None,
    weights_BTGn: Tensor | None = None,
) -> Tensor:
    """(B, T, H, P)."""
    inputs = (q_BTHK, k_BSGK, v_BSGP, ids_BTGn, select_block)
    unfit = None if weights_BTGn is None else "has no weights of blocks"
    form = _form("auto" if backend == "triton" and unfit else backend, q_BTHK, v_BSGP, k_BSGK.shape[1], unfit)
    if form == "triton":
        from ripstop.kernels.triton import sparse_attention as kernels

        reads.note_blocks("selected", ids_BTGn, select_block, k_BSGK, v_BSGP)
        return kernels.selected_attention(*inputs, documents)
    if form == "reference":
        reads.note("selected", k_BSGK.shape[1], k_BSGK, v_BSGP)
        return reference.selected_attention_reference(*inputs, documents, weights_BTGn)
    if q_BTHK.shape[1] > 1 or documents is not None:
        reads.note("selected", k_BSGK.shape[1], k_BSGK, v_BSGP)
        return selected.selected_attention(*inputs, documents, weights_BTGn)
    # One token reads its blocks and nothing else.
    k_BsGK, v_BsGP = selected.gathered(*inputs[1:])
    reads.of("selected")
    if weights_BTGn is None:
        return attention.attention(beside(backend), q_BTHK, k_BsGK, v_BsGP, causal=False)
    reads.note("selected", k_BsGK.shape[1], k_BsGK, v_BsGP)
    return selected.weighted_step(q_BTHK, k_BsGK, v_BsGP, select_block, weights_BTGn)


def window_attention(
    backend: str,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    window_size: int,
    segments: Segments | None = None,
    first: int = 0,
) -> Tensor:
    """(B, T, H, P). The queries are the last T of the S positions, which begin at position `first` of the document."""
    if _form(backend, q_BTHK, v_BSGP, first + k_BSGK.shape[1]) == "triton":
        from ripstop.kernels.triton import window_attention as kernels

        reads.note("window", k_BSGK.shape[1], k_BSGK, v_BSGP)
        start_BT = None if segments is None else segments.start_BT
        return kernels.window_attention(q_BTHK, k_BSGK, v_BSGP, window_size, start_BT)
    return windows.window_attention(beside(backend), q_BTHK, k_BSGK, v_BSGP, window_size, 0, segments, None, first)


def gated_sum(backend: str, n_keys: int, gates_BTH3: Tensor, *branches_BTHP: Tensor) -> Tensor:
    """(B, T, H, P): each branch times its gate. n_keys: as long as the past is, with which the kernels begin to pay."""
    y = branches_BTHP[0]
    if _form(backend, y, y, n_keys) == "triton":
        from ripstop.kernels.triton import gated_sum as kernels

        return kernels.gated_sum(gates_BTH3, *branches_BTHP)
    y_BTHP = torch.zeros_like(y)
    for i, branch_BTHP in enumerate(branches_BTHP):
        y_BTHP = y_BTHP + gates_BTH3[..., i : i + 1] * branch_BTHP
    return y_BTHP


def beside(backend: str) -> str:
    """What a mixer's other operations run with: of Triton there is sparse attention alone."""
    return "auto" if backend == KERNEL.name else backend


def _form(backend: str, q_BTHK: Tensor, v_BSGP: Tensor, n_keys: int, unfit: str | None = None) -> str:
    if unfit is None and max(q_BTHK.shape[-1], v_BSGP.shape[-1]) > 256:
        unfit = "has heads of 256 at most"
    if unfit is None and backend == "auto" and q_BTHK.is_cuda:
        unfit = _does_not_pay(q_BTHK, n_keys)
    return choose(backend, KERNEL, q_BTHK.device, q_BTHK.dtype, unfit)


def _does_not_pay(q_BTHK: Tensor, n_keys: int) -> str | None:
    """Why not, by the times that were measured on this device."""
    part: Part = "training" if torch.is_grad_enabled() else "decode" if q_BTHK.shape[1] == 1 else "forward"
    pays_from = kernels_pay_from(_device_name(q_BTHK.device), str(q_BTHK.dtype).removeprefix("torch."), part)
    if pays_from == NEVER:
        return "was not measured to pay on this device: python -m ripstop bench selection"
    return None if n_keys >= pays_from else f"pays from {pays_from} tokens on, as measured"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


_device_name._dynamo_marked_constant = True  # type: ignore[attr-defined]
