"""Causal depthwise convolution over time, channels last: slowly, fast on a CPU, and one step.

x_BTC; weight_CW, whose last tap meets the present token; bias_C; past_BWC: the W - 1 inputs before the first (None: zeros).
A position sees no input of another document (`segments`); the past belongs to the first document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.operation import Operation
from ripstop.ops.segments import Segments

TILE = 1 << 17
"""Numbers in a tile: 512 KiB in float32."""


def causal_conv_reference(
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    past_BWC: Tensor | None = None,
    segments: Segments | None = None,
) -> Tensor:
    """y_t = bias + sum_w weight_w x_{t - (W - 1) + w}, term by term."""
    width = weight_CW.shape[1]
    past_BWC = _past(x_BTC, width, past_BWC)
    x = torch.cat([past_BWC, x_BTC], 1)
    run_BT = None if segments is None else F.pad(segments.run_BT, (width - 1, 0))
    outputs = []
    for t in range(x_BTC.shape[1]):
        y_BC = bias_C.expand_as(x_BTC[:, t])
        for w in range(width):
            term_BC = weight_CW[:, w] * x[:, t + w]
            if run_BT is not None:
                same_B1 = (run_BT[:, t + w] == run_BT[:, t + width - 1]).unsqueeze(1)
                term_BC = torch.where(same_B1, term_BC, torch.zeros_like(term_BC))
            y_BC = y_BC + term_BC
        outputs.append(y_BC)
    return torch.stack(outputs, 1)


def causal_conv(
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    past_BWC: Tensor | None = None,
    segments: Segments | None = None,
    silu: bool = False,
) -> Tensor:
    """The same as W shifted multiply-adds, then SiLU where asked. Inputs must be finite where there are segments."""
    n_past = 0
    if past_BWC is not None:
        n_past = past_BWC.shape[1]
        x_BTC = torch.cat([past_BWC.to(x_BTC.dtype), x_BTC], 1)
    run_BT = None if segments is None else F.pad(segments.run_BT, (n_past, 0))
    y_BTC, _, _ = shifted_conv(x_BTC, weight_CW.to(x_BTC.dtype).t(), bias_C.to(x_BTC.dtype), run_BT, silu)
    return y_BTC[:, n_past:]


def causal_conv_step(x_BC: Tensor, weight_CW: Tensor, bias_C: Tensor, past_BWC: Tensor) -> tuple[Tensor, Tensor]:
    """One token: the output, and the past for the next."""
    window_BWC = torch.cat([past_BWC.to(x_BC.dtype), x_BC.unsqueeze(1)], 1)
    y_BC = bias_C.to(x_BC.dtype) + (window_BWC * weight_CW.to(x_BC.dtype).t()).sum(1)
    return y_BC, window_BWC[:, 1:]


def next_past(x_BTC: Tensor, width: int, past_BWC: Tensor | None) -> Tensor:
    """The last W - 1 inputs after `x_BTC`, which may be shorter than that."""
    joined = torch.cat([_past(x_BTC, width, past_BWC).to(x_BTC.dtype), x_BTC], 1)
    return joined[:, joined.shape[1] - (width - 1) :]


def _past(x_BTC: Tensor, width: int, past_BWC: Tensor | None) -> Tensor:
    return x_BTC.new_zeros(x_BTC.shape[0], width - 1, x_BTC.shape[2]) if past_BWC is None else past_BWC


def _forward(
    x_BTC: Tensor, weight_WC: Tensor, bias_C: Tensor, run_BT: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """In-place shifted multiply-adds, tile by tile: on a CPU faster than conv1d(groups=C), whose layout is channels first, and
    than autograd through slices, which writes one padded copy for every tap.

    Returns the output, and for the backward what SiLU was applied to and `_same_run`, each empty where there is none.
    """
    taps = weight_WC.contiguous().unbind(0)
    y = torch.empty_like(x_BTC, memory_format=torch.contiguous_format)
    activated = torch.empty_like(y) if silu else y
    same = None if run_BT is None else _same_run(run_BT, len(taps), x_BTC.dtype)
    for rows, begin, end in _tiles(x_BTC):
        tile = y[rows, begin:end]
        torch.addcmul(bias_C, x_BTC[rows, begin:end], taps[-1], out=tile)
        for tap, shift, low in _past_taps(taps, begin, end):
            x = x_BTC[rows, low - shift : end - shift]
            x = x if same is None else x * same[shift - 1, rows, low:end]
            tile[:, low - begin :].addcmul_(x, tap)
        if silu:
            torch.ops.aten.silu.out(tile, out=activated[rows, begin:end])
    return activated, y if silu else y.new_empty(0), y.new_empty(0) if same is None else same


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x_BTC, weight_WC, _, run_BT, ctx.silu = inputs
    ctx.has_runs = run_BT is not None
    ctx.save_for_backward(x_BTC, weight_WC, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(backward: Any, ctx: Any, dy_BTC: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if dy_BTC is None:
        return (None,) * 5
    return (*backward(dy_BTC, *ctx.saved_tensors, ctx.has_runs, ctx.silu), None, None)


def _backward(
    dy_BTC: Tensor, x_BTC: Tensor, weight_WC: Tensor, y: Tensor, same: Tensor, has_runs: bool, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias."""
    taps = weight_WC.contiguous().unbind(0)
    dx = torch.empty_like(x_BTC, memory_format=torch.contiguous_format)
    dweight_WC, dbias = weight_WC.new_zeros(weight_WC.shape), torch.zeros_like(taps[0])
    dtaps = dweight_WC.unbind(0)
    for rows, begin, end in _tiles(x_BTC):
        dy = dy_BTC[rows, begin:end]
        if silu:
            dy = torch.ops.aten.silu_backward(dy, y[rows, begin:end])
        torch.mul(dy, taps[-1], out=dx[rows, begin:end])
        dtaps[-1].add_((dy * x_BTC[rows, begin:end]).sum((0, 1)))
        dbias.add_(dy.sum((0, 1)))
        for tap, shift, low in _past_taps(taps, begin, end):
            late = dy[:, low - begin :]
            late = late * same[shift - 1, rows, low:end] if has_runs else late
            before = slice(low - shift, end - shift)  # reaches into tiles before this one, which are begun already
            dx[rows, before].addcmul_(late, tap)
            dtaps[-1 - shift].add_((late * x_BTC[rows, before]).sum((0, 1)))
    return dx, dweight_WC, dbias


def _past_taps(taps: tuple[Tensor, ...], begin: int, end: int) -> Iterator[tuple[Tensor, int, int]]:
    """Each tap of the past, its shift, and the first position of begin..end that has an input so far back."""
    for shift in range(1, len(taps)):
        low = max(begin, shift)
        if low < end:
            yield taps[-1 - shift], shift, low


def _tiles(x_BTC: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Rows and stretches of time that together fit a CPU's second-level cache: every tap passes over them once more."""
    n_batch, n_time, n_channels = x_BTC.shape
    budget = max(1, TILE // n_channels) if x_BTC.device.type == "cpu" else n_batch * n_time
    n_rows = max(1, budget // n_time)
    for row in range(0, n_batch, n_rows):
        for begin in range(0, n_time, budget):
            yield slice(row, row + n_rows), begin, min(begin + budget, n_time)


def _same_run(run_BT: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """1 where position t and t - shift are of one document, else 0, for shifts 1 to W - 1: (W - 1, B, T, 1)."""
    before = [F.pad(run_BT, (shift, 0), value=-1)[:, : run_BT.shape[1]] for shift in range(1, width)]
    return (torch.stack(before) == run_BT).to(dtype).unsqueeze(-1)


def _fake(x_BTC: Tensor, weight_WC: Tensor, bias_C: Tensor, run_BT: Tensor | None, silu: bool) -> tuple[Tensor, Tensor, Tensor]:
    n_batch, n_time, _ = x_BTC.shape
    same = (0,) if run_BT is None else (weight_WC.shape[0] - 1, n_batch, n_time, 1)
    return x_BTC.new_empty(x_BTC.shape), x_BTC.new_empty(x_BTC.shape if silu else (0,)), x_BTC.new_empty(same)


def _fake_backward(
    dy_BTC: Tensor, x_BTC: Tensor, weight_WC: Tensor, y: Tensor, same: Tensor, has_runs: bool, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return x_BTC.new_empty(x_BTC.shape), weight_WC.new_empty(weight_WC.shape), weight_WC.new_empty(weight_WC.shape[1:])


shifted_conv = Operation(
    "shifted_conv",
    "(Tensor x_BTC, Tensor weight_WC, Tensor bias_C, Tensor? run_BT, bool silu) -> (Tensor, Tensor, Tensor)",
    _forward,
    "(Tensor dy_BTC, Tensor x_BTC, Tensor weight_WC, Tensor y, Tensor same, bool has_runs, bool silu) "
    "-> (Tensor dx_BTC, Tensor dweight_WC, Tensor dbias_C)",
    _backward,
    _save,
    _differentiate,
)
shifted_conv.fake(_fake, _fake_backward)
