"""Natively sparse attention by the kernels, as `ops.sparse_attention` defines it: packed documents and gradients among it.

Kernels count blocks from the start of the sequence, so packed documents are laid apart before them (`ops.block_layout`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ripstop.kernels.triton import (
    block_selection,
    selected_backward,
    selected_forward,
    strided_backward,
    strided_forward,
)  # fmt: skip
from ripstop.kernels.triton.tiles import innermost
from ripstop.ops import compressed_attention
from ripstop.ops.block_layout import CompressedLayout, Layout
from ripstop.ops.operation import Operation
from ripstop.ops.sparse_attention import Blocks, Documents, compressed_starts, documents_of


def compress_and_select(
    q_BTHK: Tensor, k_BNGK: Tensor, v_BNGP: Tensor, blocks: Blocks, n_past: int = 0, documents: Documents | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `ops.compressed_attention.compress_and_select`."""
    of = (*(documents or (None, None)), list(blocks), n_past)
    y, _, ids, importance = compressed(*innermost(q_BTHK, k_BNGK, v_BNGP), *of)
    if not torch.is_grad_enabled():
        return y, ids, importance
    return y, ids, with_gradient(importance, q_BTHK, k_BNGK, ids, *of)


def selected_attention(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, select_block: int, documents: Documents | None = None
) -> Tensor:
    """As `ops.selected_attention.selected_attention`, without weights of the blocks."""
    of = (*(documents or (None, None)), select_block)
    return selected(*innermost(q_BTHK, k_BSGK, v_BSGP), ids_BTGn.to(torch.int32).contiguous(), *of)[0]


class _Apart(NamedTuple):
    """How packed documents are laid, as kernels are told of it; nothing is moved where there is one document alone."""

    layout: Layout | None
    compressed: CompressedLayout | None
    start: Tensor | None

    @staticmethod
    def of(documents: Documents | None, block: int, blocks: Blocks | None = None) -> _Apart:
        if documents is None:
            return _Apart(None, None, None)
        layout = Layout.of(documents, block)
        compressed = None
        if blocks is not None:
            compressed = CompressedLayout.of(layout, compressed_starts(documents, blocks), blocks.compress_stride)
        return _Apart(layout, compressed, layout.start_BS.to(torch.int32).contiguous())

    def spread(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors if self.layout is None else tuple(map(self.layout.spread, tensors))

    def spread_compressed(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors if self.compressed is None else tuple(map(self.compressed.spread, tensors))

    def collect(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors if self.layout is None else tuple(self.layout.collect(t).contiguous() for t in tensors)

    def collect_compressed(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors if self.compressed is None else tuple(map(self.compressed.collect, tensors))

    def spread_ids(self, ids: Tensor, block: int) -> Tensor:
        """Numbers of blocks in their documents -> in the row."""
        if self.layout is None:
            return ids
        ids = self.layout.spread(ids + 1) - 1  # none between the documents
        return torch.where(ids < 0, ids, ids + (self.layout.start_BS // block)[:, :, None, None].to(ids.dtype))

    def collect_ids(self, ids: Tensor, block: int) -> Tensor:
        if self.layout is None:
            return ids
        ids = torch.where(ids < 0, ids, ids - (self.layout.start_BS // block)[:, :, None, None].to(ids.dtype))
        return self.layout.collect(ids).contiguous()


def _compressed(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor | None, end: Tensor | None, sizes: list[int], n_past: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Output, logarithm of the sum of exponentials (B, T, H), selected blocks and their importance."""
    blocks, scale = Blocks(*sizes), q.shape[-1] ** -0.5
    apart = _Apart.of(documents_of(start, end), blocks.select_block, blocks)
    (q,), (k, v) = apart.spread(q), apart.spread_compressed(k, v)
    length, stride, *_ = blocks
    y, lse = strided_forward.forward(q, k, v, apart.start, length, stride, 0, n_past, scale)
    ids, importance = block_selection.select_blocks(q, k, lse, apart.start, blocks, n_past, scale)
    ids = apart.collect_ids(ids, blocks.select_block)
    y, lse, importance = apart.collect(y, lse, importance)
    return y, lse, ids, importance


def _compressed_backward(
    dy: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor,
    start: Tensor | None, end: Tensor | None, sizes: list[int], n_past: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    blocks, scale = Blocks(*sizes), q.shape[-1] ** -0.5
    apart = _Apart.of(documents_of(start, end), blocks.select_block, blocks)
    dy, y, lse, q = apart.spread(dy.contiguous(), y, lse, q)
    k, v = apart.spread_compressed(k, v)
    length, stride, *_ = blocks
    dq, dk, dv = strided_backward.backward(dy, y, lse, q, k, v, apart.start, length, stride, 0, n_past, scale)
    return *apart.collect(dq), *apart.collect_compressed(dk, dv)


def _compressed_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.sizes, ctx.n_past = inputs
    ctx.save_for_backward(*output[:2], *tensors)
    ctx.mark_non_differentiable(*output[1:])


def _compressed_differentiate(backward: Any, ctx: Any, dy: Tensor, *_: Any) -> tuple[Any, ...]:
    return *backward(dy, *ctx.saved_tensors, ctx.sizes, ctx.n_past), None, None, None, None


def _compressed_fake(
    q: Tensor, k: Tensor, v: Tensor, start: Any, end: Any, sizes: list[int], n_past: int
) -> tuple[Tensor, ...]:
    chosen = (*q.shape[:2], k.shape[2], Blocks(*sizes).n_selected)
    y, lse = q.new_empty(*q.shape[:3], v.shape[-1]), q.new_empty(q.shape[:3], dtype=torch.float32)
    return y, lse, q.new_empty(chosen, dtype=torch.int32), q.new_empty(chosen)


def _of_qkv(dy: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in (q, k, v))


_SETTINGS = "Tensor? start, Tensor? end, int[] sizes, int n_past"
compressed = Operation(
    "triton_compress_and_select",
    f"(Tensor q, Tensor k, Tensor v, {_SETTINGS}) -> (Tensor, Tensor, Tensor, Tensor)",
    _compressed,
    f"(Tensor dy, Tensor y, Tensor lse, Tensor q, Tensor k, Tensor v, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
    _compressed_backward,
    _compressed_save,
    _compressed_differentiate,
)
compressed.fake(_compressed_fake, _of_qkv)


def _same(importance: Tensor, *rest: Any) -> Tensor:
    return importance.clone()


def _importance_backward(d_importance: Tensor, q: Tensor, k: Tensor, ids: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    """By the torch form, which works the weights out again. Rarely asked for: by ways of teaching that go by importance."""
    nothing = q.new_zeros(()).expand(*q.shape[:3], k.shape[-1])
    dq, dk, _ = compressed_attention.backward(nothing, d_importance, q, k, k, ids, *settings)
    return dq, dk


def _importance_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *tensors, ctx.sizes, ctx.n_past = inputs
    ctx.save_for_backward(*tensors)


def _importance_differentiate(backward: Any, ctx: Any, d_importance: Tensor) -> tuple[Any, ...]:
    return None, *backward(d_importance, *ctx.saved_tensors, ctx.sizes, ctx.n_past), None, None, None, None, None


with_gradient = Operation(
    "triton_importance",
    f"(Tensor importance, Tensor q, Tensor k, Tensor ids, {_SETTINGS}) -> Tensor",
    _same,
    f"(Tensor d_importance, Tensor q, Tensor k, Tensor ids, {_SETTINGS}) -> (Tensor, Tensor)",
    _importance_backward,
    _importance_save,
    _importance_differentiate,
)
with_gradient.fake(
    lambda importance, *rest: torch.empty_like(importance),
    lambda d_importance, q, k, *rest: (q.new_empty(q.shape), k.new_empty(k.shape)),
)


def _selected(
    q: Tensor, k: Tensor, v: Tensor, ids: Tensor, start: Tensor | None, end: Tensor | None, block: int
) -> tuple[Tensor, Tensor]:
    n_past, apart = k.shape[1] - q.shape[1], _Apart.of(documents_of(start, end), block)
    ids = apart.spread_ids(ids, block)
    q, k, v = apart.spread(q, k, v)
    y, lse = apart.collect(*selected_forward.forward(q, k, v, ids, apart.start, block, n_past, q.shape[-1] ** -0.5))
    return y, lse


def _selected_backward(
    dy: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, ids: Tensor,
    start: Tensor | None, end: Tensor | None, block: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    n_past, apart = k.shape[1] - q.shape[1], _Apart.of(documents_of(start, end), block)
    ids = apart.spread_ids(ids, block)
    dy, y, lse, q, k, v = apart.spread(dy.contiguous(), y, lse, q, k, v)
    gradients = selected_backward.backward(dy, y, lse, q, k, v, ids, apart.start, block, n_past, q.shape[-1] ** -0.5)
    return apart.collect(*gradients)


def _selected_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.block = inputs
    ctx.save_for_backward(*output, *tensors)
    ctx.mark_non_differentiable(output[1])


def _selected_differentiate(backward: Any, ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    return *backward(dy, *ctx.saved_tensors, ctx.block), None, None, None, None


_ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor ids, Tensor? start, Tensor? end, int block"
selected = Operation(
    "triton_selected_attention",
    f"({_ARGUMENTS}) -> (Tensor, Tensor)",
    _selected,
    f"(Tensor dy, Tensor y, Tensor lse, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    _selected_backward,
    _selected_save,
    _selected_differentiate,
)
selected.fake(
    lambda q, k, v, *rest: (q.new_empty(*q.shape[:3], v.shape[-1]), q.new_empty(q.shape[:3], dtype=torch.float32)), _of_qkv
)
