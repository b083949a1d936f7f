"""Attention over compressed blocks and the selection that its scores make, fast: some queries at a time, in linear memory.

The scores of all queries with all compressed blocks are never held, nor kept for the backward, which works them out again.
By definition: `sparse_attention`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.block_layout import CompressedLayout, Layout
from ripstop.ops.operation import Operation, without_autocast
from ripstop.ops.sparse_attention import Blocks, Documents, compressed_starts, documents_of

MOST_SCORES = 2**22
"""Held at once."""
FORCED = 0x7F800000
"""The bits of infinity: above every importance."""


def compress_and_select(
    q_BTHK: Tensor, k_BNGK: Tensor, v_BNGP: Tensor, blocks: Blocks, n_past: int = 0, documents: Documents | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Output of the compressed branch (B, T, H, P); the selected blocks, int32 (B, T, G, n) ascending and -1 where there are no
    more; and their importance (B, T, G, n), 0 there. The blocks have no gradient, their importance has."""
    return operation(q_BTHK, k_BNGK, v_BNGP, *(documents or (None, None)), list(blocks), n_past)


class _Part(NamedTuple):
    """Some queries against the compressed blocks that any of them may see."""

    begin: int
    end: int
    n_compressed: int
    n_blocks: int


def _parts(q: Tensor, k: Tensor, blocks: Blocks, n_past: int) -> list[_Part]:
    n_batch, n_groups, n_time, n_heads, _ = q.shape
    size = max(16, MOST_SCORES // max(1, n_batch * n_groups * n_heads * k.shape[2]))
    parts = []
    for begin in range(0, n_time, size):
        end = min(n_time, begin + size)
        n_compressed = min(k.shape[2], blocks.n_compressed(n_past + end))
        parts.append(_Part(begin, end, n_compressed, blocks.n_selectable(n_past + end)))
    return parts


def _weights(q: Tensor, k: Tensor, part: _Part, blocks: Blocks, n_past: int, start_BT: Tensor | None) -> Tensor:
    """Softmax of the scores, (B, G, t, R, n); q (B, G, T, R, K) and k (B, G, N, K), in the precision to compute in."""
    q, k = q[:, :, part.begin : part.end], k[:, :, : part.n_compressed]
    n_batch, n_groups, n_time, n_heads, _ = q.shape
    scores = torch.matmul(q.flatten(2, 3) * q.shape[-1] ** -0.5, k.transpose(2, 3)).unflatten(2, (n_time, n_heads))
    t = torch.arange(n_past + part.begin, n_past + part.end, device=q.device).unsqueeze(1)
    begins = torch.arange(part.n_compressed, device=q.device) * blocks.compress_stride
    unseen = begins + blocks.compress_block - 1 > t
    if start_BT is not None:
        unseen = unseen | (begins < start_BT[:, part.begin : part.end].unsqueeze(2))
        unseen = unseen.unsqueeze(1)
    unseen = unseen.unsqueeze(-2)
    weights = scores.masked_fill_(unseen, float("-inf")).softmax(-1)
    return weights.masked_fill_(unseen.all(-1, keepdim=True), 0)


def _importance(weights_BGtN: Tensor, part: _Part, blocks: Blocks) -> Tensor:
    """-> (B, G, t, M): Eq. (9), the weights of a group's heads summed already."""
    overlap, step = blocks.overlap, blocks.select_block // blocks.compress_stride
    before = len(overlap) - step
    padded = F.pad(weights_BGtN, (before, part.n_blocks * step - part.n_compressed))
    last = (part.n_blocks - 1) * step + 1
    importance = padded[..., 0:last:step] * overlap[0]
    for k, weight in enumerate(overlap[1:], 1):
        importance.add_(padded[..., k : k + last : step], alpha=weight)
    return importance


def _importance_backward(d_importance: Tensor, part: _Part, blocks: Blocks) -> Tensor:
    """(B, G, t, M) -> (B, G, t, n): the transpose of `_importance`."""
    overlap, step = blocks.overlap, blocks.select_block // blocks.compress_stride
    before, last = len(overlap) - step, (part.n_blocks - 1) * step + 1
    padded = d_importance.new_zeros(*d_importance.shape[:-1], before + part.n_blocks * step)
    for k, weight in enumerate(overlap):
        padded[..., k : k + last : step].add_(d_importance, alpha=weight)
    return padded[..., before : before + part.n_compressed]


def select(importance_BGTM: Tensor, blocks: Blocks, own_BT: Tensor, first_BT: Tensor | None = None) -> Tensor:
    """The selected blocks, int64 (B, G, T, n) ascending, with the number of blocks M where there are no more.

    own_BT: the block that each query lies in, (T,) or (B, T). first_BT: the first block of its document; none given: 0.
    """
    n_blocks = importance_BGTM.shape[-1]
    index_M = torch.arange(n_blocks, device=own_BT.device)
    own = own_BT[..., None, :, None]
    first = torch.zeros_like(own) if first_BT is None else first_BT[..., None, :, None]
    forced = (index_M < first + blocks.n_first) | (index_M > own - blocks.n_local)
    # Numbers that compare as the float32 importance does, which is not negative, and break ties by the index.
    bits = importance_BGTM.float().view(torch.int32).long().masked_fill_(forced, FORCED)
    rank = (bits << 32) + (n_blocks - index_M)
    rank = rank.masked_fill_((index_M > own) | (index_M < first), -1)
    best = rank.topk(min(blocks.n_selected, n_blocks), -1, sorted=False)
    ids = best.indices.masked_fill_(best.values < 0, n_blocks).sort(-1).values
    return F.pad(ids, (0, blocks.n_selected - ids.shape[-1]), value=n_blocks)


def _grouped(x_BTHK: Tensor, n_groups: int) -> Tensor:
    """(B, T, H, K) -> (B, G, T, R, K) in the precision to compute in."""
    x = x_BTHK.unflatten(2, (n_groups, -1)).transpose(1, 2)
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _ungrouped(x_BGTRK: Tensor) -> Tensor:
    return x_BGTRK.transpose(1, 2).flatten(2, 3)


class _Inputs(NamedTuple):
    """Tensors laid apart, grouped by heads: q (B, G, T, R, K), k (B, G, N, K), v (B, G, N, P)."""

    q: Tensor
    k: Tensor
    v: Tensor
    start_BT: Tensor | None
    layouts: tuple[Layout, CompressedLayout] | None

    @staticmethod
    def of(q: Tensor, k: Tensor, v: Tensor, documents: Documents | None, blocks: Blocks) -> _Inputs:
        layouts, start = None, None
        if documents is not None:
            starts_BN = compressed_starts(documents, blocks)
            layout = Layout.of(documents, blocks.select_block)
            compressed = CompressedLayout.of(layout, starts_BN, blocks.compress_stride)
            layouts, start = (layout, compressed), layout.start_BS
            q, k, v = layout.spread(q), compressed.spread(k), compressed.spread(v)
        n_groups = k.shape[2]
        k, v = (_grouped(x, n_groups).squeeze(3) for x in (k, v))
        return _Inputs(_grouped(q, n_groups), k, v, start, layouts)


@without_autocast
def _forward(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor | None, end: Tensor | None, sizes: list[int], n_past: int
) -> tuple[Tensor, Tensor, Tensor]:
    blocks, (n_batch, n_groups) = Blocks(*sizes), (k.shape[0], k.shape[2])
    inputs = _Inputs.of(q, k, v, documents_of(start, end), blocks)
    n_time, n_heads = inputs.q.shape[2:4]
    y = inputs.v.new_zeros(n_batch, n_groups, n_time, n_heads, inputs.v.shape[-1])
    ids = torch.full((n_batch, n_groups, n_time, blocks.n_selected), -1, dtype=torch.long, device=q.device)
    importance = inputs.q.new_zeros(n_batch, n_groups, n_time, blocks.n_selected)
    for part in _parts(inputs.q, inputs.k, blocks, n_past):
        at = slice(part.begin, part.end)
        weights = _weights(inputs.q, inputs.k, part, blocks, n_past, inputs.start_BT)
        values = inputs.v[:, :, : part.n_compressed]
        y[:, :, at] = torch.matmul(weights.flatten(2, 3), values).unflatten(2, weights.shape[2:4])
        of_all = _importance(weights.sum(3), part, blocks)
        own_T = torch.arange(n_past + part.begin, n_past + part.end, device=q.device) // blocks.select_block
        first = None if inputs.start_BT is None else inputs.start_BT[:, at] // blocks.select_block
        chosen = select(of_all, blocks, own_T, first)
        importance[:, :, at] = F.pad(of_all, (0, 1)).gather(-1, chosen)
        ids[:, :, at] = chosen.masked_fill(chosen == part.n_blocks, -1)
    y, ids, importance = _ungrouped(y).to(v.dtype), ids.transpose(1, 2), importance.transpose(1, 2)
    if inputs.layouts is not None:
        layout, _ = inputs.layouts
        first = (layout.start_BS // blocks.select_block)[:, :, None, None]
        ids = torch.where(ids < 0, ids, ids - first)
        y, ids, importance = layout.collect(y), layout.collect(ids), layout.collect(importance)
    return y.contiguous(), ids.to(torch.int32).contiguous(), importance.to(q.dtype).contiguous()


@without_autocast
def backward(
    dy: Tensor, d_importance: Tensor, q: Tensor, k: Tensor, v: Tensor, ids: Tensor, start: Tensor | None, end: Tensor | None,
    sizes: list[int], n_past: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    blocks = Blocks(*sizes)
    inputs = _Inputs.of(q, k, v, documents_of(start, end), blocks)
    if inputs.layouts is not None:
        layout, _ = inputs.layouts
        first = (layout.start_BS // blocks.select_block)[:, :, None, None]
        dy, d_importance = layout.spread(dy), layout.spread(d_importance)
        ids = layout.spread(ids + 1) - 1  # none between the documents
        ids = torch.where(ids < 0, ids, ids + first)
    dy, d_chosen = _grouped(dy, inputs.k.shape[1]), d_importance.transpose(1, 2).to(inputs.q.dtype)
    chosen = ids.transpose(1, 2).long()
    dq, dk, dv = torch.zeros_like(inputs.q), torch.zeros_like(inputs.k), torch.zeros_like(inputs.v)
    scale = q.shape[-1] ** -0.5
    for part in _parts(inputs.q, inputs.k, blocks, n_past):
        at, seen = slice(part.begin, part.end), slice(part.n_compressed)
        weights = _weights(inputs.q, inputs.k, part, blocks, n_past, inputs.start_BT)
        shape, dy_part = weights.shape[2:4], dy[:, :, at].flatten(2, 3)
        d_weights = torch.matmul(dy_part, inputs.v[:, :, seen].transpose(2, 3)).unflatten(2, shape)
        # Where there is no block, the gradient goes to one more that is cut off.
        where = chosen[:, :, at].masked_fill(chosen[:, :, at] < 0, part.n_blocks)
        d_all = d_chosen.new_zeros(*where.shape[:3], part.n_blocks + 1).scatter_add_(-1, where, d_chosen[:, :, at])
        d_weights.add_(_importance_backward(d_all[..., :-1], part, blocks).unsqueeze(3))
        d_scores = weights * (d_weights - (d_weights * weights).sum(-1, keepdim=True))
        d_scores = d_scores.flatten(2, 3).mul_(scale)
        dq[:, :, at] = torch.matmul(d_scores, inputs.k[:, :, seen]).unflatten(2, shape)
        dk[:, :, seen] += torch.matmul(d_scores.transpose(2, 3), inputs.q[:, :, at].flatten(2, 3))
        dv[:, :, seen] += torch.matmul(weights.flatten(2, 3).transpose(2, 3), dy_part)
    dq, dk, dv = _ungrouped(dq), dk.transpose(1, 2), dv.transpose(1, 2)
    if inputs.layouts is not None:
        layout, compressed = inputs.layouts
        dq, dk, dv = layout.collect(dq), compressed.collect(dk), compressed.collect(dv)
    return dq.to(q.dtype).contiguous(), dk.to(k.dtype).contiguous(), dv.to(v.dtype).contiguous()


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.sizes, ctx.n_past = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(backward: Any, ctx: Any, dy: Tensor, _: Any, d_importance: Tensor) -> tuple[Any, ...]:
    q, k, v, start, end, ids = ctx.saved_tensors
    return (*backward(dy, d_importance, q, k, v, ids, start, end, ctx.sizes, ctx.n_past), None, None, None, None)


_SETTINGS = "Tensor? start, Tensor? end, int[] sizes, int n_past"
operation = Operation(
    "compress_and_select",
    f"(Tensor q, Tensor k, Tensor v, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
    _forward,
    f"(Tensor dy, Tensor d_importance, Tensor q, Tensor k, Tensor v, Tensor ids, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
    backward,
    _save,
    _differentiate,
)


def _fake(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor | None, end: Tensor | None, sizes: list[int], n_past: int
) -> tuple[Tensor, ...]:
    n_batch, n_time, n_heads, _ = q.shape
    shape = (n_batch, n_time, k.shape[2], Blocks(*sizes).n_selected)
    return v.new_empty(n_batch, n_time, n_heads, v.shape[-1]), q.new_empty(shape, dtype=torch.int32), q.new_empty(shape)


def _fake_backward(dy: Tensor, d_importance: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


operation.fake(_fake, _fake_backward)
