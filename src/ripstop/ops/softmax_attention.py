"""Softmax attention, causal or both ways: slowly with an explicit mask, and fast by SDPA.

q_BTHK queries; k_BSGK and v_BSGP, shared by H / G query heads each (grouped-query attention, arXiv 2305.13245). The queries
are the last T of the S positions: S > T is a chunk after a past. The scale is 1 / sqrt(K) unless given.
A query sees keys of its own document only (`segments`), and at or before itself where `causal`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.segments import Segments


def visible(
    n_queries: int,
    n_keys: int,
    causal: bool = True,
    segments: Segments | None = None,
    window_size: int | None = None,
    sink_size: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Which key each query sees: bool, (T, S), or (B, 1, T, S) with segments.

    window_size: only the last so many positions, itself among them, and the first `sink_size` of the document.
    """
    key_S = torch.arange(n_keys, device=device if segments is None else segments.run_BT.device)
    query_T = key_S[n_keys - n_queries :]
    seen = torch.ones(n_queries, n_keys, dtype=torch.bool, device=key_S.device)
    if causal:
        seen = key_S <= query_T.unsqueeze(1)
    if segments is not None:
        run_BS = segments.run_BT
        seen = seen & (run_BS[:, None, :] == run_BS[:, n_keys - n_queries :, None]).unsqueeze(1)
    if window_size is not None:
        position = key_S if segments is None else segments.position_BT[:, None, None, :]
        seen = seen & ((query_T.unsqueeze(1) - key_S < window_size) | (position < sink_size))
    return seen


def attention_reference(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, seen: Tensor, scale: float | None = None) -> Tensor:
    """softmax(q k^T scale) v over the keys that `seen` (from `visible`) allows: Vaswani et al., Eq. (1). -> (B, T, H, P)."""
    heads_a_group = q_BTHK.shape[2] // k_BSGK.shape[2]
    k_BSHK, v_BSHP = k_BSGK.repeat_interleave(heads_a_group, 2), v_BSGP.repeat_interleave(heads_a_group, 2)
    scores_BHTS = torch.einsum("bthk,bshk->bhts", q_BTHK, k_BSHK) * (scale or q_BTHK.shape[-1] ** -0.5)
    weights_BHTS = scores_BHTS.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshp->bthp", weights_BHTS, v_BSHP)


def attention(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    causal: bool = True,
    segments: Segments | None = None,
    scale: float | None = None,
) -> Tensor:
    """The same by `scaled_dot_product_attention`. -> (B, T, H, P). No mask is built where the sequence is one document."""
    n_queries, n_keys = q_BTHK.shape[1], k_BSGK.shape[1]
    if segments is not None or (causal and n_queries not in (1, n_keys)):
        seen = visible(n_queries, n_keys, causal, segments, device=q_BTHK.device)
        return sdpa(q_BTHK, k_BSGK, v_BSGP, seen, scale=scale)
    if causal and n_queries == n_keys:
        return sdpa(q_BTHK, k_BSGK, v_BSGP, None, causal=True, scale=scale)
    return sdpa(q_BTHK, k_BSGK, v_BSGP, None, scale=scale)


def sdpa(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, seen: Tensor | None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """torch's SDPA in this house's layout: time before heads."""
    y_BHTP = F.scaled_dot_product_attention(
        q_BTHK.transpose(1, 2),
        k_BSGK.transpose(1, 2),
        v_BSGP.transpose(1, 2),
        attn_mask=seen,
        is_causal=causal,
        scale=scale,
        enable_gqa=q_BTHK.shape[2] != k_BSGK.shape[2],
    )
    return y_BHTP.transpose(1, 2)
