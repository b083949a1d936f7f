"""causal-conv1d's kernels against the slow convolution, in bfloat16 on a GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.convolution import causal_conv_reference, causal_conv_step
from ripstop.ops.segments import Segments

pytestmark = pytest.mark.gpu


def _inputs(n_time: int, width: int) -> list[Tensor]:
    torch.manual_seed(0)
    # A slice of a wider projection, whose rows do not begin at multiples of 8.
    x = torch.randn(2, n_time, 107)[..., 5:101]
    return [t.bfloat16() for t in (x, torch.randn(96, width), torch.randn(96), torch.randn(2, width - 1, 96))]


def _near(got: Tensor, wanted: Tensor) -> None:
    assert (got.double().cpu() - wanted).norm() < 1e-2 * wanted.norm()


@pytest.mark.parametrize("n_time", [1, 63, 64, 100])
@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("given", ["nothing", "past", "segments"])
@pytest.mark.parametrize("silu", [False, True])
def test_sequence(n_time: int, width: int, given: str, silu: bool) -> None:
    kernels = pytest.importorskip("ripstop.kernels.adapters.causal_conv1d", exc_type=ImportError)
    values = _inputs(n_time, width)
    numbers = (torch.arange(n_time) // 7).expand(2, -1) if given == "segments" else None
    if given != "past":
        values = values[:3]
    slow = [t.double().requires_grad_() for t in values]
    fast = [t.cuda().requires_grad_() for t in values]
    past_slow, past_fast = (slow[3], fast[3]) if given == "past" else (None, None)
    y_slow = causal_conv_reference(*slow[:3], past_slow, Segments.of(numbers))
    y_slow = F.silu(y_slow) if silu else y_slow
    y_fast = kernels.causal_conv(*fast[:3], past_fast, None if numbers is None else Segments.of(numbers.cuda()), silu)
    _near(y_fast, y_slow)
    dy = torch.randn_like(y_slow).bfloat16()
    got = torch.autograd.grad(y_fast, fast, dy.cuda())
    for a, b in zip(got, torch.autograd.grad(y_slow, slow, dy.double()), strict=True):
        assert (a.double().cpu() - b).norm() < 2e-2 * b.norm() + 1e-6


def test_step() -> None:
    kernels = pytest.importorskip("ripstop.kernels.adapters.causal_conv1d", exc_type=ImportError)
    x, weight, bias, past = _inputs(1, 4)
    y_slow, past_slow = causal_conv_step(*(t.double() for t in (x[:, 0], weight, bias, past)))
    with torch.no_grad():
        y_fast, past_fast = kernels.causal_conv_step(*(t.cuda() for t in (x[:, 0], weight, bias, past)), True)
    _near(y_fast, F.silu(y_slow))
    _near(past_fast, past_slow)
