"""Branches weighted by their gates and summed, in one pass over memory: differentiable, and one operation to a compiler."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.tiles import load_rows, power_of_two, store_rows
from ripstop.ops.operation import Operation

ROWS = 32


def gated_sum(gates_BTH3: Tensor, first_BTHP: Tensor, second_BTHP: Tensor, third_BTHP: Tensor) -> Tensor:
    """(B, T, H, P): the sum of the three, each times its gate."""
    return summed(gates_BTH3.contiguous(), *(y.contiguous() for y in (first_BTHP, second_BTHP, third_BTHP)))


def _sizes(y: Tensor) -> tuple[tuple[int], dict[str, int]]:
    n_rows, width = y.shape[:-1].numel(), y.shape[-1]
    return (triton.cdiv(n_rows, ROWS),), dict(n_rows=n_rows, P=width, PP=power_of_two(width), ROWS=ROWS, num_warps=4)


def _forward(gates: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    y = torch.empty_like(a)
    grid, sizes = _sizes(a)
    _sum[grid](gates, a, b, c, y, **sizes)
    return y


def _backward(dy: Tensor, gates: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    d_gates, da, db, dc = (torch.empty_like(t) for t in (gates, a, b, c))
    grid, sizes = _sizes(a)
    _gradients[grid](dy.contiguous(), gates, a, b, c, d_gates, da, db, dc, **sizes)
    return d_gates, da, db, dc


@triton.jit(do_not_specialize=["n_rows"])
def _sum(gates, a, b, c, y, n_rows, P: tl.constexpr, PP: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    total = tl.zeros((ROWS, PP), tl.float32)
    for i in tl.static_range(3):
        branch = a if i == 0 else b if i == 1 else c
        gate = tl.load(gates + row * 3 + i, mask=inside, other=0.0).to(tl.float32)
        total += gate[:, None] * load_rows(branch, row * P, inside, 0, PP, P).to(tl.float32)
    store_rows(y, row * P, total, inside, 0, PP, P)


@triton.jit(do_not_specialize=["n_rows"])
def _gradients(dy, gates, a, b, c, d_gates, da, db, dc, n_rows, P: tl.constexpr, PP: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    dy_rows = load_rows(dy, row * P, inside, 0, PP, P).to(tl.float32)
    for i in tl.static_range(3):
        branch = a if i == 0 else b if i == 1 else c
        d_branch = da if i == 0 else db if i == 1 else dc
        gate = tl.load(gates + row * 3 + i, mask=inside, other=0.0).to(tl.float32)
        y_rows = load_rows(branch, row * P, inside, 0, PP, P).to(tl.float32)
        tl.store(d_gates + row * 3 + i, tl.sum(dy_rows * y_rows, 1).to(d_gates.dtype.element_ty), mask=inside)
        store_rows(d_branch, row * P, gate[:, None] * dy_rows, inside, 0, PP, P)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(backward: Any, ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
    return backward(dy, *ctx.saved_tensors)


_ARGUMENTS = "Tensor gates, Tensor a, Tensor b, Tensor c"
summed = Operation(
    "triton_gated_sum",
    f"({_ARGUMENTS}) -> Tensor",
    _forward,
    f"(Tensor dy, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _save,
    _differentiate,
)
summed.fake(
    lambda gates, a, *rest: torch.empty_like(a),
    lambda dy, *tensors: tuple(torch.empty_like(t) for t in tensors),
)
