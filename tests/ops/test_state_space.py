"""SSD: values on paper, chunks against the recurrence, states that join, decay too strong for naive arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripstop.ops.segments import Segments
from ripstop.ops.state_space import ssd_chunked, ssd_recurrent, ssd_step

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")


def _inputs(
    n_time: int, n_batch: int = 2, n_heads: int = 4, head_dim: int = 3, n_groups: int = 2, d_state: int = 5, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return [
        normal(n_batch, n_time, n_heads, head_dim),
        normal(n_batch, n_time, n_heads).abs(),
        -normal(n_heads).abs(),
        normal(n_batch, n_time, n_groups, d_state),
        normal(n_batch, n_time, n_groups, d_state),
        normal(n_heads),
    ]


def test_two_tokens_by_hand() -> None:
    x, dt = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1), torch.tensor([0.5, 2.0]).view(1, 2, 1)
    A, B, C = torch.tensor([-math.log(2.0)]), torch.tensor([7.0, 1.0]).view(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
    # h_1 = 0.5 * 7 * 3 = 10.5; h_2 = 2^-2 * 10.5 + 2 * 1 * 5 = 12.625; y = h + D x with D = 10.
    for op in (ssd_recurrent, ssd_chunked):
        y, final = op(x, dt, A, B, C, torch.tensor([10.0]))
        torch.testing.assert_close(y.flatten(), torch.tensor([40.5, 62.625]))
        torch.testing.assert_close(final.flatten(), torch.tensor([12.625]))


@pytest.mark.parametrize("n_time", [1, 63, 64, 100])
@pytest.mark.parametrize("chunk_size", [1, 7, 16, 64, 128])
@pytest.mark.parametrize("with_initial", [False, True])
@pytest.mark.parametrize("with_segments", [False, True])
@pytest.mark.parametrize("need_final", [False, True])
def test_chunks_equal_the_recurrence(
    n_time: int, chunk_size: int, with_initial: bool, with_segments: bool, need_final: bool
) -> None:
    inputs = _inputs(n_time)
    segments = Segments.of(torch.arange(n_time) // 13 + torch.tensor([[0], [1]])) if with_segments else None
    if with_initial:
        inputs.append(torch.randn(2, 4, 3, 5, dtype=torch.float64))
    for tensor in inputs:
        tensor.requires_grad_()
    initial = inputs[6] if with_initial else None
    y_slow, final_slow = ssd_recurrent(*inputs[:6], initial, segments)
    y_fast, final_fast = ssd_chunked(*inputs[:6], initial, segments, chunk_size, need_final)
    dy, dfinal = torch.randn_like(y_slow), torch.randn_like(final_slow)
    torch.testing.assert_close(y_fast, y_slow, rtol=1e-10, atol=1e-10)
    if need_final:
        torch.testing.assert_close(final_fast, final_slow, rtol=1e-10, atol=1e-10)
        outputs = [([y_slow, final_slow], [dy, dfinal]), ([y_fast, final_fast], [dy, dfinal])]
    else:
        assert final_fast.numel() == 0
        outputs = [([y_slow], [dy]), ([y_fast], [dy])]
    slow, fast = (torch.autograd.grad(ys, inputs, dys, allow_unused=True) for ys, dys in outputs)
    for name, a, b in zip(("x", "dt", "A", "B", "C", "D", "initial"), fast, slow, strict=False):
        if b is None:  # the initial state reaches no output
            assert a is None or not a.any()
        else:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"d{name}: {text}")


@settings(max_examples=40, deadline=None)
@given(
    n_time=st.integers(1, 40), chunk_size=st.integers(1, 50), cut=st.integers(0, 40), seed=st.integers(0, 99),
    n_groups=st.sampled_from([1, 2, 4]),
)  # fmt: skip
def test_any_cut_joins_through_the_state(n_time: int, chunk_size: int, cut: int, seed: int, n_groups: int) -> None:
    x, dt, A, B, C, D = _inputs(n_time, n_groups=n_groups, seed=seed)
    cut = min(cut, n_time - 1)
    whole, final = ssd_chunked(x, dt, A, B, C, D, chunk_size=chunk_size)
    outputs, state = [], None
    for part in (slice(0, cut), slice(cut, n_time)):
        if x[:, part].shape[1]:
            y, state = ssd_chunked(x[:, part], dt[:, part], A, B[:, part], C[:, part], D, state, None, chunk_size)
            outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    torch.testing.assert_close(state, final)


def test_step_continues_a_scan() -> None:
    x, dt, A, B, C, D = _inputs(12)
    whole, final = ssd_chunked(x, dt, A, B, C, D, chunk_size=5)
    _, state = ssd_chunked(x[:, :11], dt[:, :11], A, B[:, :11], C[:, :11], D, chunk_size=4)
    y, state = ssd_step(x[:, 11], dt[:, 11], A, B[:, 11], C[:, 11], D, state)
    torch.testing.assert_close(y, whole[:, 11])
    torch.testing.assert_close(state, final)


def test_gradcheck_with_everything() -> None:
    inputs = [t.requires_grad_() for t in _inputs(7, n_batch=1, n_heads=2, head_dim=2, n_groups=1, d_state=2)]
    initial = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    segments = Segments.of(torch.tensor([[1, 1, 1, 1, 2, 2, 2]]))
    for chosen in (None, segments):
        torch.autograd.gradcheck(lambda *a, s=chosen: ssd_chunked(*a, s, 3), (*inputs, initial))


def test_decay_to_nothing_gives_no_nan() -> None:
    """exp(-s) would overflow and exp(s) vanish here; only their quotient is finite."""
    x, dt, A, B, C, D = (t.float().requires_grad_() for t in _inputs(150))
    segments = Segments.of(torch.arange(150).expand(2, -1) // 31)
    for chosen in (None, segments):
        y, final = ssd_chunked(x, dt * 30, A * 100, B, C, D, None, chosen)
        gradients = torch.autograd.grad(y.sum() + final.sum(), [x, dt, A, B, C, D])
        assert all(t.isfinite().all() for t in (y, final, *gradients))
        slow, _ = ssd_recurrent(x, dt * 30, A * 100, B, C, D, None, chosen)
        # Sums of decays reach 1e5, so their differences are right to 1e-2 only: the price of float32 sums, as in mamba-ssm.
        torch.testing.assert_close(y, slow, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("strength", [0.1, 3.0, 30.0])
def test_float32_gradients_are_accurate_however_strong_the_decay(strength: float) -> None:
    """Where little is left after one step, the gradient of the decay is small: a difference of large sums would drown it."""
    inputs = _inputs(200, n_batch=1)
    inputs[1] = inputs[1].clamp(min=0.3)
    inputs[2] = -strength * (0.5 + inputs[2].abs())
    gradients = []
    for dtype in (torch.float32, torch.float64):
        cast = [t.to(dtype).requires_grad_() for t in inputs]
        y, _ = ssd_chunked(*cast)
        gradients.append(torch.autograd.grad(y.square().mean(), cast))
    for name, single, double in zip(("x", "dt", "A", "B", "C", "D"), *gradients, strict=True):
        assert (single - double).norm() < 2e-4 * double.norm(), name


def test_one_token_has_no_decay_to_learn_from() -> None:
    inputs = [t.requires_grad_() for t in _inputs(1)]
    y, final = ssd_chunked(*inputs)
    (dA,) = torch.autograd.grad(y.sum() + final.sum(), inputs[2])
    assert not dA.any()


def test_low_precision_inputs_are_computed_in_float32_under_autocast_too() -> None:
    inputs = [t.bfloat16() for t in _inputs(33)]
    with torch.autocast("cpu", torch.bfloat16):
        y, final = ssd_chunked(*inputs)
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    wanted, wanted_final = ssd_chunked(*(t.float() for t in inputs))
    torch.testing.assert_close(final, wanted_final)
    torch.testing.assert_close(y, wanted.bfloat16())
