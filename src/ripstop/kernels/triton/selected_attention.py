"""Attention inside the selected blocks: differentiable, and one operation to a compiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ripstop.kernels.triton.selected_backward import backward
from ripstop.kernels.triton.selected_forward import forward
from ripstop.kernels.triton.strided_attention import dense
from ripstop.kernels.triton.tiles import innermost
from ripstop.ops.operation import Operation


def selected_attention(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, select_block: int,
    first: int = 0, start_BT: Tensor | None = None, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """y_BTHP over the tokens s of the blocks in ids_BTGn (as `select_blocks` gives them, each once) with start <= s <= t.

    Queries are at first, ..., first + T - 1. A query that sees nothing has y = 0.
    """
    q, k, v = innermost(q_BTHK, k_BSGK, v_BSGP)
    ids_BTGn = ids_BTGn.to(torch.int32).contiguous()
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return selected(q, k, v, ids_BTGn, dense(start_BT), select_block, first, scale)[0]


def _forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    return forward(*inputs)


def _backward(dy: Tensor, y: Tensor, lse: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return backward(dy.contiguous(), y, lse, *inputs)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ids, start, *ctx.numbers = inputs
    ctx.save_for_backward(*output, q, k, v, ids, start)
    ctx.mark_non_differentiable(output[1])


def _differentiate(backward: Any, ctx: Any, dy: Tensor, dlse: Any) -> tuple[Any, ...]:
    return *backward(dy, *ctx.saved_tensors, *ctx.numbers), None, None, *(None for _ in ctx.numbers)


def _fake(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:3], v.shape[-1]), q.new_empty(q.shape[:3], dtype=torch.float32)


def _fake_backward(dy: Tensor, y: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in (q, k, v))


_ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor ids, Tensor? start, int block, int first, float scale"
selected = Operation(
    "triton_selected_attention",
    f"({_ARGUMENTS}) -> (Tensor, Tensor)",
    _forward,
    f"(Tensor dy, Tensor y, Tensor lse, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _save,
    _differentiate,
)
selected.fake(_fake, _fake_backward)
