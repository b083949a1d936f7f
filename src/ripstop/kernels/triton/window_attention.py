"""Attention to the tokens inside of a window by the kernels of `strided_forward`, with one token a key: differentiable, and one
operation to a compiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ripstop.kernels.triton import strided_backward, strided_forward
from ripstop.kernels.triton.tiles import innermost
from ripstop.ops.operation import Operation


def window_attention(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, window_size: int, start_BT: Tensor | None = None
) -> Tensor:  # fmt: skip
    """y (B, T, H, P) over the last window_size positions of the query's document, itself among them; 0: over all of them.

    The queries are the last T of the S positions. start_BT: where the document of each begins, never falling along T.
    """
    return window(*innermost(q_BTHK, k_BSGK, v_BSGP), start_BT, window_size)[0]


def _settings(q: Tensor, k: Tensor, start: Tensor | None, window_size: int) -> tuple[Any, ...]:
    start = None if start is None else start.to(torch.int32).contiguous()
    return start, 1, 1, window_size, k.shape[1] - q.shape[1], q.shape[-1] ** -0.5


def _forward(q: Tensor, k: Tensor, v: Tensor, start: Tensor | None, window_size: int) -> tuple[Tensor, Tensor]:
    return strided_forward.forward(q, k, v, *_settings(q, k, start, window_size))


def _backward(
    dy: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, start: Tensor | None, window_size: int
) -> tuple[Tensor, ...]:
    return strided_backward.backward(dy.contiguous(), y, lse, q, k, v, *_settings(q, k, start, window_size))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window_size = inputs
    ctx.save_for_backward(*output, *tensors)
    ctx.mark_non_differentiable(output[1])


def _differentiate(backward: Any, ctx: Any, dy: Tensor, _: Any) -> tuple[Any, ...]:
    return *backward(dy, *ctx.saved_tensors, ctx.window_size), None, None


_ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor? start, int window_size"
window = Operation(
    "triton_window_attention",
    f"({_ARGUMENTS}) -> (Tensor, Tensor)",
    _forward,
    f"(Tensor dy, Tensor y, Tensor lse, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _save,
    _differentiate,
)
window.fake(
    lambda q, k, v, *rest: (q.new_empty(*q.shape[:3], v.shape[-1]), q.new_empty(q.shape[:3], dtype=torch.float32)),
    lambda dy, y, lse, q, k, v, *rest: tuple(t.new_empty(t.shape) for t in (q, k, v)),
)
