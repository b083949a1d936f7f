"""Attention to compressed blocks, and to the tokens inside of a window: two uses of one kernel, differentiable, one operation
each call to a compiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ripstop.kernels.triton.strided_backward import backward
from ripstop.kernels.triton.strided_forward import forward
from ripstop.kernels.triton.tiles import innermost
from ripstop.ops.operation import Operation


def compressed_attention(
    q_BTHK: Tensor, k_BNGK: Tensor, v_BNGP: Tensor, compress_block: int, compress_stride: int,
    first: int = 0, start_BT: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y_BTHP and lse_BTH, float32, of which no gradient is taken.

    Queries are at first, ..., first + T - 1. A query at t sees key j where start <= j * compress_stride and
    j * compress_stride + compress_block - 1 <= t. One that sees none has y = 0 and lse = -inf. start_BT: where the document of
    each query begins, never falling along T; None: at 0.
    """
    q, k, v = innermost(q_BTHK, k_BNGK, v_BNGP)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return strided(q, k, v, dense(start_BT), compress_block, compress_stride, 0, first, scale)


def window_attention(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, window_size: int,
    first: int = 0, start_BT: Tensor | None = None, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """y_BTHP over the last window_size positions of the query's document, itself among them. window_size 0: over all."""
    q, k, v = innermost(q_BTHK, k_BSGK, v_BSGP)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return strided(q, k, v, dense(start_BT), 1, 1, window_size, first, scale)[0]


def dense(start_BT: Tensor | None) -> Tensor | None:
    """As kernels read it."""
    return None if start_BT is None else start_BT.to(torch.int32).contiguous()


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    return forward(*inputs)


def _backward(dy: Tensor, y: Tensor, lse: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return backward(dy.contiguous(), y, lse, *inputs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, start, *ctx.numbers = inputs
    ctx.save_for_backward(*output, q, k, v, start)
    ctx.mark_non_differentiable(output[1])


def _differentiate(backward: Any, ctx: Any, dy: Tensor, dlse: Any) -> tuple[Any, ...]:
    return *backward(dy, *ctx.saved_tensors, *ctx.numbers), None, *(None for _ in ctx.numbers)


def _fake(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:3], v.shape[-1]), q.new_empty(q.shape[:3], dtype=torch.float32)


def _fake_backward(dy: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in (q, k, v))


_ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor? start, int length, int stride, int window, int first, float scale"
strided = Operation(
    "triton_strided_attention",
    f"({_ARGUMENTS}) -> (Tensor, Tensor)",
    _forward,
    f"(Tensor dy, Tensor y, Tensor lse, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _save,
    _differentiate,
)
strided.fake(_fake, _fake_backward)
