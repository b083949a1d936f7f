"""The gated delta rule: values on paper, chunks against the recurrence and a published one, memories that join."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripstop.ops.delta_rule import delta_chunked, delta_recurrent, delta_step
from ripstop.ops.segments import Segments

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")
NAMES = ("q", "k", "v", "g", "beta", "initial")


def _inputs(
    n_time: int, n_decays: int, n_batch: int = 2, n_heads: int = 3, P: int = 4, K: int = 5, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    q, k = (F.normalize(normal(n_batch, n_time, n_heads, K), dim=-1) for _ in range(2))
    decay = -normal(n_batch, n_time, n_heads, n_decays).abs()
    return [q, k, normal(n_batch, n_time, n_heads, P), decay, 2 * normal(n_batch, n_time, n_heads).sigmoid()]


@pytest.mark.parametrize("op", [delta_recurrent, delta_chunked])
def test_three_tokens_by_hand(op) -> None:  # type: ignore[no-untyped-def]
    """One head of two keys and one value: 6 under the first key, then half of it kept and 2 written under the second; then half
    is kept again, and what the first key holds, 1.5, is replaced by 10 to one half."""
    k = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).view(1, 3, 1, 2)
    q = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 10.0]]).view(1, 3, 1, 2)
    v, beta = torch.tensor([6.0, 2.0, 10.0]).view(1, 3, 1, 1), torch.tensor([1.0, 1.0, 0.5]).view(1, 3, 1)
    g = torch.full((1, 3, 1, 1), math.log(0.5))
    o, memory = op(q, k, v, g, beta)
    torch.testing.assert_close(o.flatten(), torch.tensor([6.0, 5.0, 5.75 + 10.0]))
    torch.testing.assert_close(memory.flatten(), torch.tensor([5.75, 1.0]))


@pytest.mark.parametrize("op", [delta_recurrent, delta_chunked])
def test_a_decay_a_channel_by_hand(op) -> None:  # type: ignore[no-untyped-def]
    """The first channel keeps a half, the second a quarter."""
    k, q = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2), torch.tensor([[0.0, 0.0], [1.0, 10.0]]).view(1, 2, 1, 2)
    v, beta = torch.tensor([8.0, 0.0]).view(1, 2, 1, 1), torch.ones(1, 2, 1)
    g = torch.tensor([[0.5, 0.25], [0.5, 0.25]]).log().view(1, 2, 1, 2)
    o, memory = op(q, k, v, g, beta)
    torch.testing.assert_close(o.flatten(), torch.tensor([0.0, 4.0 + 20.0]))
    torch.testing.assert_close(memory.flatten(), torch.tensor([4.0, 2.0]))


@pytest.mark.parametrize("n_time", [1, 16, 33, 64, 100])
@pytest.mark.parametrize("chunk_size", [1, 7, 16, 40, 64, 128])
@pytest.mark.parametrize("n_decays", [1, 5])
@pytest.mark.parametrize("with_initial", [False, True])
@pytest.mark.parametrize("with_segments", [False, True])
def test_chunks_equal_the_recurrence(
    n_time: int, chunk_size: int, n_decays: int, with_initial: bool, with_segments: bool
) -> None:
    inputs = _inputs(n_time, n_decays)
    segments = Segments.of(torch.arange(n_time) // 13 + torch.tensor([[0], [1]])) if with_segments else None
    if with_initial:
        inputs.append(torch.randn(2, 3, 4, 5, dtype=torch.float64))
    for tensor in inputs:
        tensor.requires_grad_()
    initial = inputs[5] if with_initial else None
    slow = delta_recurrent(*inputs[:5], initial, segments)
    fast = delta_chunked(*inputs[:5], initial, segments, chunk_size)
    random = [torch.randn_like(t) for t in slow]
    for what, got, wanted in zip(("o", "memory"), fast, slow, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10, msg=lambda text, what=what: f"{what}: {text}")
    gradients = (
        torch.autograd.grad(outputs, inputs, random, materialize_grads=True, allow_unused=True) for outputs in (fast, slow)
    )
    for name, got, wanted in zip(NAMES, *gradients, strict=False):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"d{name}: {text}")


def test_gradcheck_with_everything() -> None:
    for n_decays in (1, 2):
        inputs = [t.requires_grad_() for t in _inputs(7, n_decays, n_batch=1, n_heads=2, P=2, K=2)]
        initial = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
        for segments in (None, Segments.of(torch.tensor([[1, 1, 1, 1, 2, 2, 2]]))):
            torch.autograd.gradcheck(lambda *a, s=segments: delta_chunked(*a, s, 3), (*inputs, initial))


@settings(max_examples=30, deadline=None)
@given(
    n_time=st.integers(1, 40), chunk_size=st.integers(1, 50), cut=st.integers(0, 40), seed=st.integers(0, 99),
    n_decays=st.sampled_from([1, 5]),
)  # fmt: skip
def test_any_cut_joins_through_the_memory(n_time: int, chunk_size: int, cut: int, seed: int, n_decays: int) -> None:
    inputs, cut = _inputs(n_time, n_decays, seed=seed), min(cut, n_time - 1)
    whole, final = delta_chunked(*inputs, chunk_size=chunk_size)
    outputs, memory = [], None
    for part in (slice(0, cut), slice(cut, n_time - 1)):
        if inputs[0][:, part].shape[1]:
            o, memory = delta_chunked(*(t[:, part] for t in inputs), memory, None, chunk_size)
            outputs.append(o)
    memory = whole.new_zeros(2, 3, 4, 5) if memory is None else memory
    o, memory = delta_step(*(t[:, -1] for t in inputs), memory)
    torch.testing.assert_close(torch.cat([*outputs, o.unsqueeze(1)], 1), whole)
    torch.testing.assert_close(memory, final)


@pytest.mark.parametrize("n_decays", [1, 5])
def test_the_last_value_of_a_key_is_found_whatever_it_held_before(n_decays: int) -> None:
    """What plain linear attention cannot: with beta = 1 and no decay a key that is written again holds the new value alone."""
    keys = torch.eye(5, dtype=torch.float64)[torch.tensor([0, 1, 0, 2, 1, 0])].view(1, 6, 1, 5)
    values = torch.arange(1.0, 7.0, dtype=torch.float64).view(1, 6, 1, 1)
    g, beta = torch.zeros(1, 6, 1, n_decays, dtype=torch.float64), torch.ones(1, 6, 1, dtype=torch.float64)
    o, memory = delta_chunked(keys, keys, values, g, beta, chunk_size=4)
    torch.testing.assert_close(o, values)
    assert memory.flatten().tolist() == [6, 5, 4, 0, 0]


def test_beta_of_two_turns_a_key_s_sign() -> None:
    """A transition of eigenvalue -1, which parity needs (arXiv 2411.12537): each token that is 1 turns the memory over."""
    n_time, key = 9, torch.ones(1, 1, 1, 1, dtype=torch.float64)
    ones = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 0, 1], dtype=torch.float64)
    turned, _ = delta_chunked(
        *(key.expand(1, n_time, 1, 1),) * 2, torch.zeros(1, n_time, 1, 1, dtype=torch.float64),
        torch.zeros(1, n_time, 1, 1, dtype=torch.float64), (2 * ones).view(1, -1, 1), key,
    )  # fmt: skip
    torch.testing.assert_close(turned.flatten(), 1 - 2 * (ones.cumsum(0) % 2))


@pytest.mark.parametrize("n_decays", [1, 5])
@pytest.mark.parametrize("strength", [0.1, 3.0, 100.0])
def test_float32_is_accurate_and_finite_however_strong_the_decay(n_decays: int, strength: float) -> None:
    inputs = _inputs(150, n_decays)
    inputs[3] = strength * inputs[3]
    for segments in (None, Segments.of(torch.arange(150).expand(2, -1) // 31)):
        results = []
        for dtype in (torch.float32, torch.float64):
            cast = [t.to(dtype).requires_grad_() for t in inputs]
            o, memory = delta_chunked(*cast, None, segments)
            results.append([o, memory, *torch.autograd.grad(o.square().mean() + memory.sum(), cast)])
        for name, single, double in zip(("o", "memory", *NAMES), *results, strict=False):
            assert single.isfinite().all(), name
            assert (single - double).norm() < 1e-3 * double.norm() + 1e-30, name


def test_low_precision_inputs_are_computed_in_float32_under_autocast_too() -> None:
    inputs = [t.bfloat16() for t in _inputs(33, 5)]
    with torch.autocast("cpu", torch.bfloat16):
        o, memory = delta_chunked(*inputs)
    assert (o.dtype, memory.dtype) == (torch.bfloat16, torch.float32)
    wanted, wanted_memory = delta_chunked(*(t.float() for t in inputs))
    torch.testing.assert_close(memory, wanted_memory)
    torch.testing.assert_close(o, wanted.bfloat16())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_decays", [1, 5])
def test_equals_flash_linear_attention_s_reference(n_decays: int) -> None:
    """Its recurrence in torch, token by token in float32; its kernels are compared on a GPU (`tests/kernels/test_fla.py`)."""
    pytest.importorskip("fla", exc_type=ImportError)
    from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule as gated_delta
    from fla.ops.kda.naive import naive_recurrent_kda as kda

    q, k, v, g, beta = (t.float() for t in _inputs(37, n_decays))
    initial = torch.randn(2, 3, 4, 5)
    past = {"scale": 1.0, "initial_state": initial.transpose(-1, -2), "output_final_state": True}
    if n_decays == 1:
        wanted, wanted_memory = gated_delta(q, k, v, beta, g.squeeze(-1), **past)
    else:
        wanted, wanted_memory = kda(q, k, v, g, beta, **past)
    o, memory = delta_chunked(q, k, v, g, beta, initial, None, 16)
    torch.testing.assert_close(o, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(memory, wanted_memory.transpose(-1, -2), rtol=1e-5, atol=1e-5)
