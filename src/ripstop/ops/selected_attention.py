"""Attention over the blocks that each query selected, fast: by key block, exactly.

Gathering each query's blocks copies n l' keys for every query, and on a CPU loses to dense attention at any length. Here the
pairs (query, block) are sorted by block, so that a block is multiplied with many queries at once; the partial softmaxes of a
query are then put together. Time and memory grow with T n l'. Short sequences take a mask over all pairs, a single query
gathers. By definition: `sparse_attention`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.block_layout import Layout
from ripstop.ops.operation import Operation, without_autocast
from ripstop.ops.softmax_attention import sdpa
from ripstop.ops.sparse_attention import Documents, documents_of

MOST_NUMBERS = 2**24
"""Held at once for the pairs of some queries."""
DENSE_KEYS = 1024
"""Up to so many keys a mask over all pairs is faster (`benchmarks/sparse_attention.py`)."""


def selected_attention(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    ids_BTGn: Tensor,
    select_block: int,
    documents: Documents | None = None,
    weights_BTGn: Tensor | None = None,
) -> Tensor:
    """(B, T, H, P); arguments as `selected_attention_reference` has them. Differentiable in q, k, v and the weights."""
    if weights_BTGn is None and k_BSGK.shape[1] <= DENSE_KEYS and not torch.compiler.is_compiling():
        return dense(q_BTHK, k_BSGK, v_BSGP, ids_BTGn, select_block, documents)
    return block_major(q_BTHK, k_BSGK, v_BSGP, ids_BTGn, select_block, documents, weights_BTGn)


def gathered(k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, select_block: int) -> tuple[Tensor, Tensor]:
    """Keys and values that the last position reads, (B, s, G, K) and (B, s, G, P): the tokens of its selected blocks and no
    other. ids_BTGn: of that one query, T = 1."""
    n_keys = k_BSGK.shape[1]
    own = (n_keys - 1) // select_block
    # As many as there are, and of the last, its own, those up to itself.
    ids_BnG = ids_BTGn[:, 0, :, : min(ids_BTGn.shape[-1], own + 1)].transpose(1, 2).long()
    token_BsG = (ids_BnG.unsqueeze(2) * select_block + torch.arange(select_block, device=ids_BnG.device)[:, None]).flatten(1, 2)
    token_BsG = token_BsG[:, : token_BsG.shape[1] - ((own + 1) * select_block - n_keys)]
    row, group = (torch.arange(n, device=ids_BnG.device) for n in (len(ids_BnG), k_BSGK.shape[2]))
    index = (row[:, None, None], token_BsG, group)
    return k_BSGK[index], v_BSGP[index]


def weighted_step(q_B1HK: Tensor, k_BsGK: Tensor, v_BsGP: Tensor, select_block: int, weights_B1Gn: Tensor) -> Tensor:
    """One query over what `gathered` returned, softmax inside each block, with the blocks' weights. -> (B, 1, H, P)."""
    n_groups, n_blocks = k_BsGK.shape[2], -(-k_BsGK.shape[1] // select_block)
    fill = n_blocks * select_block - k_BsGK.shape[1]
    q_BGRK = q_B1HK.squeeze(1).unflatten(1, (n_groups, -1)) * q_B1HK.shape[-1] ** -0.5
    scores_BGRs = F.pad(torch.einsum("bgrk,bsgk->bgrs", q_BGRK, k_BsGK), (0, fill), value=float("-inf"))
    inside_BGRnQ = scores_BGRs.unflatten(-1, (n_blocks, select_block)).softmax(-1)
    weights_BG1n1 = weights_B1Gn[:, 0, :, None, :n_blocks, None]
    total_BGRs = (inside_BGRnQ * weights_BG1n1).flatten(3)[..., : k_BsGK.shape[1]]
    return torch.einsum("bgrs,bsgp->bgrp", total_BGRs, v_BsGP).flatten(1, 2).unsqueeze(1)


def dense(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    ids_BTGn: Tensor,
    select_block: int,
    documents: Documents | None = None,
) -> Tensor:
    """By SDPA under a mask over all pairs."""
    (n_time, n_keys), n_heads = (q_BTHK.shape[1], k_BSGK.shape[1]), q_BTHK.shape[2] // k_BSGK.shape[2]
    n_blocks = -(-n_keys // select_block)
    index = ids_BTGn.long().masked_fill(ids_BTGn < 0, n_blocks)
    in_block_BTGM = index.new_zeros(*index.shape[:3], n_blocks + 1, dtype=torch.bool).scatter_(-1, index, True)
    s_S = torch.arange(n_keys, device=index.device)
    t_T1 = s_S[n_keys - n_time :].unsqueeze(1)
    if documents is None:
        may, in_block_BTGS = s_S <= t_T1, in_block_BTGM[..., s_S // select_block]
    else:
        start_BT1 = documents.start_BT.unsqueeze(2)
        may = (s_S <= t_T1) & (s_S >= start_BT1)
        block_BTS = (s_S - start_BT1).clamp(min=0) // select_block
        in_block_BTGS = in_block_BTGM.gather(-1, block_BTS.unsqueeze(2).expand(-1, -1, index.shape[2], -1))
    seen_BHTS = (in_block_BTGS & may.unsqueeze(-2)).transpose(1, 2).repeat_interleave(n_heads, 1)
    return sdpa(q_BTHK, k_BSGK, v_BSGP, seen_BHTS)


class _Part(NamedTuple):
    """The pairs of some queries, sorted by block and laid into tiles: one block and `size` queries each, the last of a block
    filled up. c: number of pairs laid so, P: of tiles.

    query_c: row of each pair's query among (B t G). block_P: number of each tile's block among (B G M). place: where each pair
    of (B t G, n) lies, -1 where there is none. late_c: how far the query lies behind the start of its block.
    """

    begin: int
    end: int
    size: int
    query_c: Tensor
    block_P: Tensor
    place: Tensor
    late_c: Tensor

    @staticmethod
    def of(ids_BtGn: Tensor, begin: int, n_past: int, n_blocks: int, select_block: int) -> _Part:
        n_batch, n_time, n_groups, n_selected = ids_BtGn.shape
        device = ids_BtGn.device
        row, group = torch.arange(n_batch, device=device), torch.arange(n_groups, device=device)
        flat = (row[:, None, None, None] * n_groups + group[:, None]) * n_blocks + ids_BtGn
        n_flat = n_batch * n_groups * n_blocks
        sorted_block, order = flat.masked_fill(ids_BtGn < 0, n_flat).flatten().sort()
        count = torch.bincount(sorted_block, minlength=n_flat + 1)[:n_flat]
        n_pairs = int(count.sum())
        sorted_block, order = sorted_block[:n_pairs], order[:n_pairs]
        # A quarter of what a block has on the average: the tiles that are not full cost little.
        size = min(64, max(4, 2 ** ((n_pairs // max(1, int((count > 0).sum()))) // 4).bit_length()))
        tiles = -(-count // size)
        n_tiles = int(tiles.sum())
        rank = torch.arange(n_pairs, device=device) - (count.cumsum(0) - count)[sorted_block]
        laid = (tiles.cumsum(0) - tiles)[sorted_block] * size + rank
        query_c = torch.zeros(n_tiles * size, dtype=torch.long, device=device)
        query_c[laid] = order // n_selected
        place = torch.full((flat.numel(),), -1, dtype=torch.long, device=device)
        place[order] = laid
        late_c = torch.zeros_like(query_c)
        t = n_past + begin + order // (n_selected * n_groups) % n_time
        late_c[laid] = t - sorted_block % n_blocks * select_block
        block_P = torch.arange(n_flat, device=device).repeat_interleave(tiles, output_size=n_tiles)
        return _Part(begin, begin + n_time, size, query_c, block_P, place.view(-1, n_selected), late_c)

    def of_queries(self, x_BtGC: Tensor) -> Tensor:
        """(B, t, G, R, C) of the queries -> (P, size * R, C) of the pairs."""
        n_heads, width = x_BtGC.shape[3:]
        return x_BtGC.reshape(-1, n_heads * width).index_select(0, self.query_c).view(-1, self.size * n_heads, width)

    def to_queries(self, x_PC: Tensor, n_heads: int) -> Tensor:
        """(P, size * R, C), a term for each pair -> (B t G, R, C), the sum for each query."""
        rows = x_PC.view(len(self.query_c), -1)
        there = (self.place >= 0).to(rows.dtype)
        summed = F.embedding_bag(self.place.clamp(min=0), rows, mode="sum", per_sample_weights=there)
        return summed.view(len(summed), n_heads, -1)

    def of_pairs(self, x_c: Tensor) -> Tensor:
        """(c, R) of the pairs -> (B t G, n, R)."""
        return x_c[self.place.clamp(min=0)]

    def scores(self, q: Tensor, blocks: _KeyBlocks) -> Tensor:
        """(c, R, l'), -inf where a key comes after its query. q (B, t, G, R, K), scaled."""
        scores = torch.bmm(self.of_queries(q), blocks.k.index_select(0, self.block_P).transpose(1, 2))
        select_block = scores.shape[-1]
        scores = scores.view(len(self.query_c), -1, select_block)
        own = (self.late_c < select_block - 1).nonzero().squeeze(1)  # all others see the whole block
        index = torch.arange(select_block, device=own.device)
        scores[own] = scores[own].masked_fill((index > self.late_c[own].unsqueeze(1)).unsqueeze(1), float("-inf"))
        return scores


class _KeyBlocks(NamedTuple):
    """k (B G M, l', K) and v (B G M, l', P), zeros behind the last key."""

    k: Tensor
    v: Tensor
    n_blocks: int

    @staticmethod
    def of(k_BSGK: Tensor, v_BSGP: Tensor, select_block: int) -> _KeyBlocks:
        n_blocks = -(-k_BSGK.shape[1] // select_block)
        fill = n_blocks * select_block - k_BSGK.shape[1]
        k, v = (
            F.pad(x, (0, 0, 0, 0, 0, fill)).transpose(1, 2).unflatten(2, (n_blocks, select_block)).flatten(0, 2)
            for x in (k_BSGK, v_BSGP)
        )
        return _KeyBlocks(k, v, n_blocks)


class _Inputs(NamedTuple):
    """Laid apart, in the precision to compute in: q (B, T, G, R, K), blocks of keys and values, the blocks' numbers in the
    row."""

    q: Tensor
    blocks: _KeyBlocks
    ids_BTGn: Tensor
    weights_BTGn: Tensor | None
    layout: Layout | None

    @staticmethod
    def of(
        q: Tensor, k: Tensor, v: Tensor, ids: Tensor, weights: Tensor | None, documents: Documents | None, select_block: int
    ) -> _Inputs:
        layout, ids = None, ids.long()
        dtype = torch.promote_types(q.dtype, torch.float32)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        weights = None if weights is None else weights.to(dtype)
        if documents is not None:
            layout = Layout.of(documents, select_block)
            q, k, v = layout.spread(q), layout.spread(k), layout.spread(v)
            weights = None if weights is None else layout.spread(weights)
            ids = layout.spread(ids + 1) - 1  # none between the documents
            ids = torch.where(ids < 0, ids, ids + (layout.start_BS // select_block)[:, :, None, None])
        q = q.unflatten(2, (k.shape[2], -1)) * q.shape[-1] ** -0.5
        return _Inputs(q, _KeyBlocks.of(k, v, select_block), ids, weights, layout)

    def parts(self, select_block: int, n_past: int) -> list[_Part]:
        """All the queries, so many at a time that their pairs fit."""
        n_batch, n_time, n_groups, n_heads, width = self.q.shape
        a_pair = n_heads * (select_block + width + self.blocks.v.shape[-1])
        size = max(16, MOST_NUMBERS // (n_batch * n_groups * self.ids_BTGn.shape[-1] * a_pair))
        return [
            _Part.of(self.ids_BTGn[:, begin : begin + size], begin, n_past, self.blocks.n_blocks, select_block)
            for begin in range(0, n_time, size)
        ]


def _weights_of_pairs(part: _Part, inputs: _Inputs) -> Tensor:
    """The weights of the pairs, (c, 1, 1); 0 of what fills a tile."""
    assert inputs.weights_BTGn is not None
    weights = inputs.weights_BTGn[:, part.begin : part.end].reshape(part.place.shape)
    laid = weights.new_zeros(len(part.query_c))
    there = part.place >= 0
    laid[part.place[there]] = weights[there]
    return laid[:, None, None]


@without_autocast
def _forward(
    q: Tensor, k: Tensor, v: Tensor, ids: Tensor, weights: Tensor | None, start: Tensor | None, end: Tensor | None,
    select_block: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The output, and the logarithm of each query's sum of exponentials, (B, T, H); empty where there are weights."""
    n_past, n_heads = k.shape[1] - q.shape[1], q.shape[2] // k.shape[2]
    inputs = _Inputs.of(q, k, v, ids, weights, documents_of(start, end), select_block)
    outputs, logs = [], []
    for part in inputs.parts(select_block, n_past):
        scores = part.scores(inputs.q[:, part.begin : part.end], inputs.blocks)
        largest = scores.amax(-1)
        numerator = scores.sub_(largest.unsqueeze(-1)).exp_()
        total = numerator.sum(-1)
        values = inputs.blocks.v.index_select(0, part.block_P)
        y = torch.bmm(numerator.view(len(values), -1, select_block), values).view(*numerator.shape[:2], -1)
        if weights is None:
            there = (part.place >= 0).unsqueeze(-1)
            log = (part.of_pairs(largest) + part.of_pairs(total).log()).masked_fill(~there, float("-inf")).logsumexp(1)
            log_BtGR = log.view(*inputs.q[:, part.begin : part.end].shape[:4])
            factor = (largest - log.index_select(0, part.query_c)).exp().unsqueeze(-1)
            logs.append(log_BtGR)
        else:
            factor = _weights_of_pairs(part, inputs) / total.unsqueeze(-1)
        y = part.to_queries(y.mul_(factor).view(len(values), -1, y.shape[-1]), n_heads)
        outputs.append(y.view(*inputs.q[:, part.begin : part.end].shape[:4], -1).flatten(2, 3))
    y = torch.cat(outputs, 1)
    log = torch.cat(logs, 1).flatten(2) if logs else y.new_empty(0)
    if inputs.layout is not None:
        y, log = inputs.layout.collect(y), inputs.layout.collect(log) if logs else log
    return y.to(v.dtype).contiguous(), log.contiguous()


@without_autocast
def _backward(
    dy: Tensor, y: Tensor, log: Tensor, q: Tensor, k: Tensor, v: Tensor, ids: Tensor, weights: Tensor | None,
    start: Tensor | None, end: Tensor | None, select_block: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Of q, k, v and the weights; the last is empty where there are none."""
    n_past, (n_groups, n_heads) = k.shape[1] - q.shape[1], (k.shape[2], q.shape[2] // k.shape[2])
    inputs = _Inputs.of(q, k, v, ids, weights, documents_of(start, end), select_block)
    dy, y = dy.to(inputs.q.dtype), y.to(inputs.q.dtype)
    along = (dy * y).sum(-1)  # (B, T, H)
    if inputs.layout is not None:
        dy, along = inputs.layout.spread(dy), inputs.layout.spread(along)
        log = inputs.layout.spread(log) if weights is None else log
    dy, along = dy.unflatten(2, (n_groups, -1)), along.unflatten(2, (n_groups, -1))
    dk, dv = torch.zeros_like(inputs.blocks.k), torch.zeros_like(inputs.blocks.v)
    dq, d_weights = [], []
    for part in inputs.parts(select_block, n_past):
        at = slice(part.begin, part.end)
        scores = part.scores(inputs.q[:, at], inputs.blocks)
        filling = torch.ones(len(part.query_c), dtype=torch.bool, device=q.device)
        filling[part.place[part.place >= 0]] = False
        dy_pairs = part.of_queries(dy[:, at])
        values = inputs.blocks.v.index_select(0, part.block_P)
        d_inside = torch.bmm(dy_pairs, values.transpose(1, 2)).view_as(scores)
        if weights is None:
            log_c = log.unflatten(2, (n_groups, -1))[:, at].reshape(-1, n_heads).index_select(0, part.query_c)
            inside = scores.sub_(log_c.unsqueeze(-1)).exp_().masked_fill_(filling[:, None, None], 0)
            mean = along[:, at].reshape(-1, n_heads).index_select(0, part.query_c).unsqueeze(-1)
            d_scores = d_inside.sub_(mean).mul_(inside)
        else:
            alone = scores.softmax(-1)
            mean = (alone * d_inside).sum(-1, keepdim=True)
            there = part.place >= 0
            d_weight = part.of_pairs(mean.squeeze(-1)).sum(-1).masked_fill(~there, 0)
            d_weights.append(d_weight.view(*dy[:, at].shape[:3], -1))
            inside = alone * _weights_of_pairs(part, inputs)
            d_scores = d_inside.sub_(mean).mul_(inside)
        tiles = (len(part.block_P), -1, select_block)
        d_scores, inside = d_scores.view(tiles), inside.view(tiles)
        keys = inputs.blocks.k.index_select(0, part.block_P)
        dq_part = part.to_queries(torch.bmm(d_scores, keys), n_heads)
        dq.append(dq_part.view(*inputs.q[:, at].shape).flatten(2, 3))
        dk.index_add_(0, part.block_P, torch.bmm(d_scores.transpose(1, 2), part.of_queries(inputs.q[:, at])))
        dv.index_add_(0, part.block_P, torch.bmm(inside.transpose(1, 2), dy_pairs))
    dq_all = torch.cat(dq, 1) * q.shape[-1] ** -0.5
    d_all = torch.cat(d_weights, 1) if d_weights else dq_all.new_empty(0)
    dk, dv = (
        d.unflatten(0, (len(q), n_groups, -1)).flatten(2, 3).transpose(1, 2)[:, : dq_all.shape[1] + n_past] for d in (dk, dv)
    )
    if inputs.layout is not None:
        dq_all, dk, dv = (inputs.layout.collect(d) for d in (dq_all, dk, dv))
        d_all = inputs.layout.collect(d_all) if d_weights else d_all
    of_weights = d_all.to(q.dtype if weights is None else weights.dtype).contiguous()
    return dq_all.to(q.dtype).contiguous(), dk.to(k.dtype).contiguous(), dv.to(v.dtype).contiguous(), of_weights


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.select_block = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, *tensors)


def _differentiate(backward: Any, ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    *gradients, d_weights = backward(dy, *saved, ctx.select_block)
    return (*gradients, None, None if saved[6] is None else d_weights, None, None, None)


_ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor ids, Tensor? weights, Tensor? start, Tensor? end, int select_block"
operation = Operation(
    "selected_attention",
    f"({_ARGUMENTS}) -> (Tensor, Tensor)",
    _forward,
    f"(Tensor dy, Tensor y, Tensor log, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _save,
    _differentiate,
)


def _fake(q: Tensor, k: Tensor, v: Tensor, ids: Tensor, weights: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    dtype = torch.promote_types(q.dtype, torch.float32)
    return v.new_empty(*q.shape[:3], v.shape[-1]), q.new_empty(q.shape[:3] if weights is None else 0, dtype=dtype)


def _fake_backward(dy: Tensor, y: Tensor, log: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    q, k, v, _, weights, *_ = inputs
    return (*(x.new_empty(x.shape) for x in (q, k, v)), q.new_empty(0) if weights is None else weights.new_empty(weights.shape))


operation.fake(_fake, _fake_backward)


def block_major(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    ids_BTGn: Tensor,
    select_block: int,
    documents: Documents | None = None,
    weights_BTGn: Tensor | None = None,
) -> Tensor:
    """By pairs sorted by key block."""
    y_BTHP, _ = operation(q_BTHK, k_BSGK, v_BSGP, ids_BTGn, weights_BTGn, *(documents or (None, None)), select_block)
    return y_BTHP
