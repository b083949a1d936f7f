"""Causal depthwise convolution against torch's conv1d, its own slow form, and finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ripstop.ops.convolution import causal_conv, causal_conv_reference, causal_conv_step, next_past
from ripstop.ops.segments import Segments

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")


def _inputs(n_time: int, width: int, n_channels: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n_time)
    shapes = ((3, n_time, n_channels), (n_channels, width), (n_channels,))
    x, weight, bias = (torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes)
    return x, weight, bias


@pytest.mark.parametrize("n_time", [1, 2, 63, 64, 100, 700])
@pytest.mark.parametrize("width", [2, 4, 7])
@pytest.mark.parametrize("silu", [False, True])
def test_equals_conv1d(n_time: int, width: int, silu: bool) -> None:
    x, weight, bias = _inputs(n_time, width)
    wanted = F.conv1d(F.pad(x.transpose(1, 2), (width - 1, 0)), weight.unsqueeze(1), bias, groups=5).transpose(1, 2)
    wanted = F.silu(wanted) if silu else wanted
    got = causal_conv(x, weight, bias, silu=silu)
    torch.testing.assert_close(got, wanted)
    dy = torch.randn_like(wanted)
    gradients = (torch.autograd.grad(y, [x, weight, bias], dy) for y in (got, wanted))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("n_time", [1, 3, 64, 100, 700])
@pytest.mark.parametrize("with_past", [False, True])
@pytest.mark.parametrize("with_segments", [False, True])
def test_equals_the_reference(n_time: int, with_past: bool, with_segments: bool) -> None:
    x, weight, bias = _inputs(n_time, 4)
    past = torch.randn(3, 3, 5, dtype=torch.float64, requires_grad=True) if with_past else None
    segments = Segments.of(torch.arange(n_time) // 5 + torch.tensor([[1], [2], [0]])) if with_segments else None
    inputs = [x, weight, bias, *([past] if with_past else [])]
    got, wanted = causal_conv(x, weight, bias, past, segments), causal_conv_reference(x, weight, bias, past, segments)
    torch.testing.assert_close(got, wanted)
    dy = torch.randn_like(wanted)
    for a, b in zip(torch.autograd.grad(got, inputs, dy), torch.autograd.grad(wanted, inputs, dy), strict=True):
        torch.testing.assert_close(a, b)


def test_works_on_a_slice_of_a_wider_projection() -> None:
    wide = torch.randn(2, 9, 11, dtype=torch.float64)
    _, weight, bias = _inputs(1, 3)
    torch.testing.assert_close(
        causal_conv(wide[..., 2:7], weight, bias), causal_conv(wide[..., 2:7].contiguous(), weight, bias)
    )


def test_gradcheck() -> None:
    x, weight, bias = _inputs(4, 3, n_channels=2)
    segments = Segments.of(torch.tensor([[1, 1, 2, 2]] * 3))
    for chosen, silu in ((None, True), (segments, False), (segments, True)):
        torch.autograd.gradcheck(lambda *a, s=chosen, silu=silu: causal_conv(*a, segments=s, silu=silu), (x, weight, bias))


def test_chunks_and_steps_carry_the_past() -> None:
    x, weight, bias = (t.detach() for t in _inputs(11, 4))
    whole = causal_conv(x, weight, bias)
    past, outputs, at = torch.zeros(3, 3, 5, dtype=torch.float64), [], 0
    for length in (1, 2, 5):  # chunks shorter than the past, too
        chunk = x[:, at : at + length]
        outputs.append(causal_conv(chunk, weight, bias, past))
        past, at = next_past(chunk, 4, past), at + length
    for t in range(at, 11):
        y, past = causal_conv_step(x[:, t], weight, bias, past)
        outputs.append(y.unsqueeze(1))
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
