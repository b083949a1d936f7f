"""Natively sparse attention as mixers call it: the compressed branch with its selection, and the selected branch.

Arguments as in `ops.sparse_attention`, with `backend` before them: auto, reference, torch.
"""

from __future__ import annotations

from torch import Tensor

from ripstop.kernels import attention
from ripstop.ops import compressed_attention
from ripstop.ops import selected_attention as selected
from ripstop.ops import sparse_attention as reference
from ripstop.ops.sparse_attention import Blocks, Documents


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
    if backend != "reference":
        return compressed_attention.compress_and_select(q_BTHK, k_BNGK, v_BNGP, blocks, n_past, documents)
    n_groups, n_time = k_BNGK.shape[2], q_BTHK.shape[1]
    y_BTHP, weights_BTHN = reference.compressed_attention_reference(q_BTHK, k_BNGK, v_BNGP, blocks, n_past, documents)
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
    if backend == "reference":
        return reference.selected_attention_reference(*inputs, documents, weights_BTGn)
    if q_BTHK.shape[1] > 1 or documents is not None:
        return selected.selected_attention(*inputs, documents, weights_BTGn)
    # One token reads its blocks and nothing else.
    k_BsGK, v_BsGP = selected.gathered(*inputs[1:])
    if weights_BTGn is None:
        return attention.attention(backend, q_BTHK, k_BsGK, v_BsGP, causal=False)
    return selected.weighted_step(q_BTHK, k_BsGK, v_BsGP, select_block, weights_BTGn)
