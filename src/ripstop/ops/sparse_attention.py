"""Natively sparse attention by definition: compressed blocks of the past, and the blocks that their scores select.

Yuan et al., arXiv 2502.11089. Shapes as in `softmax_attention`: q_BTHK, k_BSGK, v_BSGP; the H / G query heads of a group share
keys, values and selected blocks. The queries are the last T of the S positions; a past goes with one document, so not with
segments. Blocks are counted from the start of a query's document: a packed document has those that it has alone.

Everything here is slow, with masks over all pairs; the fast forms are in `compressed_attention` and `selected_attention`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.segments import Segments


class Blocks(NamedTuple):
    """How the past is cut. Compressed block j is of the l tokens from j d on, selection block i of the l' tokens from i l' on.

    compress_block: l. compress_stride: d, which divides l and l'. select_block: l'. n_selected: blocks that a query reads, n;
    among them, whatever their scores, the first `n_first` of the document and the last `n_local`, the query's own included.
    """

    compress_block: int
    compress_stride: int
    select_block: int
    n_selected: int
    n_first: int = 1
    n_local: int = 2

    def n_compressed(self, n_tokens: int) -> int:
        """Compressed blocks that lie whole in `n_tokens` tokens."""
        return max(0, (n_tokens - self.compress_block) // self.compress_stride + 1)

    def n_selectable(self, n_tokens: int) -> int:
        """Selection blocks that `n_tokens` tokens begin."""
        return -(-n_tokens // self.select_block)

    @property
    def overlap(self) -> list[int]:
        """Weight of compressed block `i l'/d + k - (l/d - 1)` in the importance of selection block i, k = 0, 1, ...: how many
        pairs (m, n) of Eq. (9) name it.

        >>> Blocks(32, 16, 64, 16).overlap
        [1, 2, 2, 2, 1]
        """
        a_block, a_compressed = self.select_block // self.compress_stride, self.compress_block // self.compress_stride
        return [
            sum(1 for m in range(a_block) if 0 <= m + a_compressed - 1 - k < a_compressed)
            for k in range(a_block + a_compressed - 1)
        ]


class Documents(NamedTuple):
    """What is needed of `Segments`: for each position the index of its document's first and last, (B, T)."""

    start_BT: Tensor
    end_BT: Tensor

    @staticmethod
    def of(segments: Segments | None) -> Documents | None:
        return None if segments is None else Documents(segments.start_BT, segments.end_BT)


def documents_of(start_BT: Tensor | None, end_BT: Tensor | None) -> Documents | None:
    """From what an operation is given: tensors or nothing."""
    return None if start_BT is None or end_BT is None else Documents(start_BT, end_BT)


NOWHERE = 2**31 - 1
"""Behind every sequence."""


def compressed_starts(documents: Documents, blocks: Blocks) -> Tensor:
    """Index of the first token of every compressed block of every document, in order, (B, T // d + 2), then `NOWHERE`.

    Every d positions from the start of a document, as far as l tokens of it follow. Of one size whatever the documents are: a
    document of n >= l tokens has at most n / d such blocks; and never of size 0 or 1, which a compiler would tell apart.
    """
    n_time = documents.start_BT.shape[1]
    index_T = torch.arange(n_time, device=documents.start_BT.device)
    position_BT = index_T - documents.start_BT
    begins_BT = (position_BT % blocks.compress_stride == 0) & (documents.end_BT - index_T >= blocks.compress_block - 1)
    starts_BT = torch.where(begins_BT, index_T, NOWHERE).sort(1).values
    return F.pad(starts_BT, (0, 2), value=NOWHERE)[:, : n_time // blocks.compress_stride + 2]


def compressed_visible(n_queries: int, n_past: int, starts_N: Tensor, blocks: Blocks, documents: Documents | None) -> Tensor:
    """Which compressed block each query sees, those of its document that end at or before it: (T, N) or (B, T, N).

    starts_N: first tokens of the blocks, (N,), or (B, N) with documents.
    """
    t_T1 = torch.arange(n_past, n_past + n_queries, device=starts_N.device).unsqueeze(1)
    start_N = starts_N.unsqueeze(-2)
    seen = start_N + blocks.compress_block - 1 <= t_T1
    return seen if documents is None else seen & (start_N >= documents.start_BT.unsqueeze(2))


def starts_of(n_compressed: int, blocks: Blocks, documents: Documents | None, device: torch.device) -> Tensor:
    """First tokens of the compressed blocks, (N,), or (B, N) with documents."""
    if documents is not None:
        return compressed_starts(documents, blocks)
    return torch.arange(n_compressed, device=device) * blocks.compress_stride


def compressed_attention_reference(
    q_BTHK: Tensor, k_BNGK: Tensor, v_BNGP: Tensor, blocks: Blocks, n_past: int = 0, documents: Documents | None = None
) -> tuple[Tensor, Tensor]:
    """Softmax attention over the compressed keys that a query sees; 0 where it sees none. -> y (B, T, H, P) and the weights,
    (B, T, H, N). Eq. (8)."""
    heads_a_group = q_BTHK.shape[2] // k_BNGK.shape[2]
    k_BNHK, v_BNHP = k_BNGK.repeat_interleave(heads_a_group, 2), v_BNGP.repeat_interleave(heads_a_group, 2)
    starts = starts_of(k_BNGK.shape[1], blocks, documents, q_BTHK.device)
    seen = compressed_visible(q_BTHK.shape[1], n_past, starts, blocks, documents).unsqueeze(-2)  # (.., T, 1, N)
    scores_BTHN = torch.einsum("bthk,bnhk->bthn", q_BTHK, k_BNHK) * q_BTHK.shape[-1] ** -0.5
    weights_BTHN = masked_softmax(scores_BTHN, seen)
    return torch.einsum("bthn,bnhp->bthp", weights_BTHN, v_BNHP), weights_BTHN


def masked_softmax(scores: Tensor, seen: Tensor) -> Tensor:
    """Softmax over the last axis, of what is seen; 0 everywhere, and no gradient, where nothing is."""
    if scores.shape[-1] == 0:
        return scores
    some = seen.any(-1, keepdim=True)
    return torch.where(seen, scores.masked_fill(~seen & some, float("-inf")).softmax(-1), torch.zeros_like(scores))


def importance_reference(
    weights_BTHN: Tensor, n_groups: int, blocks: Blocks, n_past: int = 0, documents: Documents | None = None
) -> Tensor:
    """Importance of each selection block of the query's document, (B, T, G, M): Eq. (9) and (10), term by term.

    Block i sums the weights of compressed blocks i l'/d + m - n, for m = 0, ..., l'/d - 1 and n = 0, ..., l/d - 1 (the paper's
    indices begin at 1), over all heads of the group.
    """
    n_batch, n_time, _, n_compressed = weights_BTHN.shape
    n_blocks = blocks.n_selectable(n_past + n_time)
    weights_BTGN = weights_BTHN.unflatten(2, (n_groups, -1)).sum(3)
    starts = starts_of(n_compressed, blocks, documents, weights_BTHN.device).expand(n_batch, -1)
    start_BT = starts.new_zeros(n_batch, n_time) if documents is None else documents.start_BT
    number_BTN = (starts.unsqueeze(1) - start_BT.unsqueeze(2)).div(blocks.compress_stride, rounding_mode="floor")
    a_block, a_compressed = blocks.select_block // blocks.compress_stride, blocks.compress_block // blocks.compress_stride
    importance_BTGM = weights_BTHN.new_zeros(n_batch, n_time, n_groups, n_blocks)
    for i in range(n_blocks):
        for m in range(a_block):
            for n in range(a_compressed):
                named_BTN = number_BTN == i * a_block + m - n
                importance_BTGM[..., i] = importance_BTGM[..., i] + (weights_BTGN * named_BTN.unsqueeze(2)).sum(-1)
    return importance_BTGM


def position_of(n_queries: int, n_past: int, documents: Documents | None, device: torch.device) -> Tensor:
    """Position of each query in its document, (T,) or (B, T)."""
    t_T = torch.arange(n_past, n_past + n_queries, device=device)
    return t_T if documents is None else t_T - documents.start_BT


def select_reference(importance_BTGM: Tensor, blocks: Blocks, position: Tensor) -> Tensor:
    """The blocks that each query reads: int32 (B, T, G, n) ascending, -1 at the end where a document has not as many. Eq. (11).

    position: of the queries in their documents, (T,) or (B, T). Importance is compared in float32; of equal blocks the earlier
    one is taken. No gradient.
    """
    n_batch, n_time, n_groups, n_blocks = importance_BTGM.shape
    own_BT = (position // blocks.select_block).expand(n_batch, n_time)
    ids_BTGn = torch.full((n_batch, n_time, n_groups, blocks.n_selected), -1, dtype=torch.int32)
    importance = importance_BTGM.detach().float().cpu()
    for b in range(n_batch):
        for t in range(n_time):
            own = int(own_BT[b, t])
            forced = [i for i in range(own + 1) if i < blocks.n_first or i > own - blocks.n_local]
            others = [i for i in range(own + 1) if i not in forced]
            for g in range(n_groups):
                value = importance[b, t, g].tolist()
                best = sorted(others, key=lambda i: (-value[i], i))[: max(0, blocks.n_selected - len(forced))]
                for slot, i in enumerate(sorted(forced + best)):
                    ids_BTGn[b, t, g, slot] = i
    return ids_BTGn.to(importance_BTGM.device)


def selected_attention_reference(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    ids_BTGn: Tensor,
    select_block: int,
    documents: Documents | None = None,
    weights_BTGn: Tensor | None = None,
) -> Tensor:
    """Softmax attention over the tokens of the selected blocks, at or before the query. -> (B, T, H, P). Eq. (12).

    weights_BTGn: softmax inside each block instead, and the blocks' outputs added with these weights (arXiv 2511.23319).
    """
    (n_queries, n_keys), n_groups = (q_BTHK.shape[1], k_BSGK.shape[1]), k_BSGK.shape[2]
    heads_a_group = q_BTHK.shape[2] // n_groups
    k_BSHK, v_BSHP = k_BSGK.repeat_interleave(heads_a_group, 2), v_BSGP.repeat_interleave(heads_a_group, 2)
    scores_BTHS = torch.einsum("bthk,bshk->bths", q_BTHK, k_BSHK) * q_BTHK.shape[-1] ** -0.5
    s_S = torch.arange(n_keys, device=q_BTHK.device)
    t_T = s_S[n_keys - n_queries :]
    start_BT = torch.zeros_like(t_T).unsqueeze(0) if documents is None else documents.start_BT
    may_BTS = (s_S <= t_T.unsqueeze(1)) & (s_S >= start_BT.unsqueeze(2))
    block_BTS = (s_S - start_BT.unsqueeze(2)).div(select_block, rounding_mode="floor")
    in_slot_BTGnS = (block_BTS[:, :, None, None] == ids_BTGn.unsqueeze(-1)) & may_BTS[:, :, None, None]
    if weights_BTGn is None:
        seen_BTHS = in_slot_BTGnS.any(3).repeat_interleave(heads_a_group, 2)
        return torch.einsum("bths,bshp->bthp", masked_softmax(scores_BTHS, seen_BTHS), v_BSHP)
    seen_BTHnS = in_slot_BTGnS.repeat_interleave(heads_a_group, 2)
    inside_BTHnS = masked_softmax(scores_BTHS.unsqueeze(3).expand_as(seen_BTHnS), seen_BTHnS)
    weights_BTHn = weights_BTGn.repeat_interleave(heads_a_group, 2)
    return torch.einsum("bthn,bthns,bshp->bthp", weights_BTHn, inside_BTHnS, v_BSHP)


def block_mass(q_BTHK: Tensor, k_BSGK: Tensor, select_block: int, documents: Documents | None = None) -> Tensor:
    """What dense attention gives to each block of the query's document, summed over a group's heads, (B, T, G, M). Takes the
    scores of all pairs."""
    (n_queries, n_keys), heads_a_group = (q_BTHK.shape[1], k_BSGK.shape[1]), q_BTHK.shape[2] // k_BSGK.shape[2]
    q_BTGRK = q_BTHK.unflatten(2, (-1, heads_a_group)) * q_BTHK.shape[-1] ** -0.5
    s_S = torch.arange(n_keys, device=q_BTHK.device)
    t_T1 = s_S[n_keys - n_queries :].unsqueeze(1)
    start_BT1 = torch.zeros_like(t_T1).unsqueeze(0) if documents is None else documents.start_BT.unsqueeze(2)
    unseen_BTS = (s_S > t_T1) | (s_S < start_BT1)
    scores_BTGRS = torch.einsum("btgrk,bsgk->btgrs", q_BTGRK, k_BSGK)
    mass_BTGS = scores_BTGRS.masked_fill(unseen_BTS[:, :, None, None], float("-inf")).softmax(-1).sum(3)
    block_BTS = (s_S - start_BT1).clamp(min=0) // select_block
    mass_BTGM = mass_BTGS.new_zeros(*mass_BTGS.shape[:3], -(-n_keys // select_block))
    return mass_BTGM.scatter_add(-1, block_BTS.unsqueeze(2).expand_as(mass_BTGS), mass_BTGS)
