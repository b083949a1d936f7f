"""The state space of Mamba-3: values on paper, chunks against the recurrence, Mamba-2 as a special case, complex numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.segments import Segments
from ripstop.ops.state_space import ssd_recurrent
from ripstop.ops.trapezoidal import (
    Projected,
    Trapezoid,
    heads,
    trapezoidal_chunked,
    trapezoidal_recurrent,
    trapezoidal_step,
    turned,
)

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")
FORMS = pytest.mark.parametrize("op", [trapezoidal_recurrent, trapezoidal_chunked])
NAMES = ("x", "dt", "a", "lambda", "B", "C", "h", "last B", "last x")


def _inputs(n_time: int, n_batch: int = 2, n_heads: int = 3, P: int = 4, N: int = 5, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    rows = (n_batch, n_time, n_heads)
    return [
        normal(*rows, P),
        normal(*rows).abs(),
        -normal(*rows).abs(),
        normal(*rows).sigmoid(),
        normal(*rows, N),
        normal(*rows, N),
    ]


@FORMS
def test_two_tokens_by_hand(op) -> None:  # type: ignore[no-untyped-def]
    x, dt = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1), torch.tensor([2.0, 4.0]).view(1, 2, 1)
    a, share = torch.tensor([0.0, math.log(0.5)]).view(1, 2, 1), torch.tensor([0.5, 0.25]).view(1, 2, 1)
    B, C = torch.tensor([7.0, 1.0]).view(1, 2, 1, 1), torch.tensor([1.0, 10.0]).view(1, 2, 1, 1)
    # h_1 = 1/2 * 2 * 3 * 7 = 21; h_2 = 1/2 (21 + 3/4 * 4 * 3 * 7) + 1/4 * 4 * 5 * 1 = 47.
    y, past = op(x, dt, a, share, B, C)
    torch.testing.assert_close(y.flatten(), torch.tensor([21.0, 470.0]))
    assert [t.item() for t in past] == pytest.approx([47.0, 1.0, 5.0])


@pytest.mark.parametrize("n_time", [1, 2, 33, 64, 100])
@pytest.mark.parametrize("chunk_size", [1, 7, 16, 64])
@pytest.mark.parametrize("with_past", [False, True])
@pytest.mark.parametrize("with_segments", [False, True])
def test_chunks_equal_the_recurrence(n_time: int, chunk_size: int, with_past: bool, with_segments: bool) -> None:
    inputs = _inputs(n_time)
    segments = Segments.of(torch.arange(n_time) // 13 + torch.tensor([[0], [1]])) if with_segments else None
    if with_past:
        inputs += [torch.randn(2, 3, 4, 5), torch.randn(2, 3, 5), torch.randn(2, 3, 4)]
    inputs = [t.double().requires_grad_() for t in inputs]
    past = Trapezoid(*inputs[6:]) if with_past else None
    results = []
    for y, after in (
        trapezoidal_recurrent(*inputs[:6], past, segments),
        trapezoidal_chunked(*inputs[:6], past, segments, chunk_size),
    ):
        outputs = [y, after.h_BHPN]
        weights = [torch.randn(t.shape, dtype=t.dtype, generator=torch.Generator().manual_seed(1)) for t in outputs]
        results.append((outputs, torch.autograd.grad(outputs, inputs, weights, materialize_grads=True, allow_unused=True)))
        torch.testing.assert_close(after[1:], (inputs[4][:, -1], inputs[0][:, -1]))
    (slow, slow_gradients), (fast, fast_gradients) = results
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    for name, got, wanted in zip(NAMES, fast_gradients, slow_gradients, strict=False):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"d{name}: {text}")


@FORMS
def test_with_lambda_one_it_is_the_recurrence_of_mamba2(op) -> None:  # type: ignore[no-untyped-def]
    x, dt, _, _, B, C = _inputs(40)
    A = -torch.rand(3, dtype=torch.float64)
    segments = Segments.of(torch.arange(40) // 13 + torch.tensor([[0], [1]]))
    y, past = op(x, dt, dt * A, torch.ones_like(dt), B, C, None, segments)
    wanted, h = ssd_recurrent(x, dt, A, B, C, torch.zeros_like(A), None, segments)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(past.h_BHPN, h)


@FORMS
def test_a_pair_that_turns_is_a_complex_number(op) -> None:  # type: ignore[no-untyped-def]
    """Real B and C of two numbers, turned by what has passed: the real part of a state that each token turns."""
    n_time = 30
    x, dt, a, share, B, C = _inputs(n_time, n_batch=1, n_heads=1, P=1, N=2)
    turn = torch.randn(1, n_time, 1, dtype=torch.float64)
    no_bias = torch.zeros(1, 2, dtype=torch.float64)
    inputs, angle = heads(Projected(x, dt, a, share.logit(), B, C, no_bias, no_bias, turn))
    y, _ = op(*inputs)
    b, c = (torch.view_as_complex(M[0, :, 0].contiguous()) for M in (B, C))
    step = torch.diff(angle[0, :, 0, 0], prepend=torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(step, torch.pi * torch.tanh(turn[0, :, 0]) * dt[0, :, 0])
    h = before = torch.zeros((), dtype=torch.complex128)
    for t in range(n_time):
        # What was written before is now behind by this token's angle.
        decay = torch.polar(a[0, t, 0].exp(), -step[t])
        h = decay * (h + (1 - share[0, t, 0]) * dt[0, t, 0] * before)
        before = x[0, t, 0, 0] * b[t]
        h = h + share[0, t, 0] * dt[0, t, 0] * before
        torch.testing.assert_close(y[0, t, 0, 0], (h * c[t].conj()).real)


def test_what_lies_behind_the_last_angle_stays() -> None:
    x, angle = torch.tensor([1.0, 0.0, 0.0, 1.0, 5.0]), torch.tensor([math.pi / 2, math.pi])
    torch.testing.assert_close(turned(x, angle), torch.tensor([0.0, 1.0, 0.0, -1.0, 5.0]))
    assert turned(x, angle[:0]) is not None and torch.equal(turned(x, angle[:0]), x)


def test_any_cut_joins_through_the_past() -> None:
    inputs = _inputs(24)
    whole, final = trapezoidal_chunked(*inputs, chunk_size=9)
    first, past = trapezoidal_chunked(*(t[:, :11] for t in inputs), chunk_size=4)
    second, past = trapezoidal_chunked(*(t[:, 11:23] for t in inputs), past, chunk_size=4)
    last, past = trapezoidal_step(*(t[:, 23] for t in inputs), past)
    torch.testing.assert_close(torch.cat([first, second, last.unsqueeze(1)], 1), whole)
    torch.testing.assert_close(past, final)


def test_low_precision_inputs_are_computed_in_float32_under_autocast_too() -> None:
    inputs = [t.bfloat16() for t in _inputs(33)]
    with torch.autocast("cpu", torch.bfloat16):
        y, past = trapezoidal_chunked(*inputs)
    assert (y.dtype, past.h_BHPN.dtype, past.B_BHN.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    wanted, _ = trapezoidal_chunked(*(t.float() for t in inputs))
    torch.testing.assert_close(y, wanted.bfloat16())


def test_a_decay_that_leaves_nothing_has_no_gradient_and_no_nan() -> None:
    inputs = [t.float().requires_grad_() for t in _inputs(70)]
    strong = [*inputs[:2], (inputs[2] - 1) * 100, *inputs[3:]]
    y, past = trapezoidal_chunked(*strong)
    gradients = torch.autograd.grad(y.square().sum() + F.relu(past.h_BHPN).sum(), inputs)
    assert all(t.isfinite().all() for t in (y, past.h_BHPN, *gradients))
    assert not gradients[2].any()
