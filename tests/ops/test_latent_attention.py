"""Latent attention: by hand, and its three forms against each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ripstop.ops.latent_attention import Up, absorbed, expand, expanded, latent_attention_reference
from ripstop.ops.segments import Segments

H, K, P, R, ROTARY = 3, 5, 4, 6, 2


def drawn(n_queries: int, n_keys: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Up]:
    generator = torch.Generator().manual_seed(n_keys)
    shapes = (2, n_queries, H, K + ROTARY), (2, n_keys, R + ROTARY), (H, K + P, R)
    q, cache, weight = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return q, cache, Up(weight, K)


def test_by_hand() -> None:
    """One head, two tokens, a latent of 2 and a rotary key of 1. Key: 3 times the first number of the latent. Value: the second
    and the sum. Logits of the last query (1; ln 2), at a scale of 1: 3 * 0 + 0 and 3 * 0 + ln 2, so weights 1/3 and 2/3."""
    up = Up(torch.tensor([[[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]), 1)
    cache = torch.tensor([[[0.0, 6.0, 0.0], [0.0, 9.0, 1.0]]])
    q = torch.tensor([[[[7.0, 7.0]], [[1.0, math.log(2)]]]])
    for form in (latent_attention_reference, expanded):
        y = form(q, cache, up, 1.0)
        assert y[0, 0, 0].tolist() == pytest.approx([6.0, 6.0]) and y[0, 1, 0].tolist() == pytest.approx([8.0, 8.0])
    assert absorbed(q[:, 1], cache, up, 1.0)[0, 0].tolist() == pytest.approx([8.0, 8.0])
    cache[0, 1, 0] = 1.0  # now the key of the last token is 3: e^(3 + ln 2), and its value 9, 10
    weight = 2 * math.exp(3) / (1 + 2 * math.exp(3))
    wanted = [6 + 3 * weight, 6 + 4 * weight]
    for y in (latent_attention_reference(q, cache, up, 1.0)[0, 1, 0], absorbed(q[:, 1], cache, up, 1.0)[0, 0]):
        assert y.tolist() == pytest.approx(wanted)


def test_keys_and_values_by_hand() -> None:
    """Of two heads: each its own rows, keys before values; the rotary key is one for both."""
    weight = torch.tensor([[[1.0], [10.0], [100.0]], [[2.0], [20.0], [200.0]]])
    k, v = expand(torch.tensor([[[3.0, 7.0]]]), Up(weight, 2))
    assert k.tolist() == [[[[3.0, 30.0, 7.0], [6.0, 60.0, 7.0]]]] and v.tolist() == [[[[300.0], [600.0]]]]


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (7, 7), (1, 9), (4, 9)])
def test_expanded_is_the_definition(n_queries: int, n_keys: int) -> None:
    q, cache, up = drawn(n_queries, n_keys)
    inputs = [t.requires_grad_() for t in (q, cache, up.weight_HCr)]
    y, wanted = expanded(q, cache, up, 0.3), latent_attention_reference(q, cache, up, 0.3)
    torch.testing.assert_close(y, wanted)
    dy = torch.randn_like(y)
    for got, want in zip(torch.autograd.grad(y, inputs, dy), torch.autograd.grad(wanted, inputs, dy), strict=True):
        torch.testing.assert_close(got, want)


def test_documents_are_apart() -> None:
    q, cache, up = drawn(8, 8)
    segments = Segments.of(torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 2, 2, 2, 3, 3, 3]]))
    for form in (latent_attention_reference, expanded):
        y = form(q, cache, up, 0.3, segments)
        torch.testing.assert_close(y[0, 3:7], form(q[:1, 3:7], cache[:1, 3:7], up, 0.3)[0])
        torch.testing.assert_close(y[1, 5:], form(q[1:, 5:], cache[1:, 5:], up, 0.3)[0])


@pytest.mark.parametrize("n_keys", [1, 2, 65, 1000])
def test_absorbed_is_the_definition_to_rounding(n_keys: int) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        q, cache, up = drawn(1, n_keys, dtype)
        wanted = latent_attention_reference(q.double(), cache.double(), Up(up.weight_HCr.double(), K), 0.3)[:, 0]
        torch.testing.assert_close(absorbed(q[:, 0], cache, up, 0.3).double(), wanted, rtol=tolerance, atol=tolerance)


def test_absorbed_in_bfloat16_is_as_near_as_expanded() -> None:
    q, cache, up = drawn(1, 300, torch.bfloat16)
    exact = latent_attention_reference(q.double(), cache.double(), Up(up.weight_HCr.double(), K), 0.3)[:, 0]
    forms = absorbed(q[:, 0], cache, up, 0.3), expanded(q, cache, up, 0.3)[:, 0]
    wrong, usual = ((y - exact).norm() / exact.norm() for y in forms)
    assert wrong < 2 * usual + 0.01


class Made(TorchDispatchMode):
    """The sizes of all that operations make; a view of what there was is none of it."""

    def __init__(self, *there: Tensor):
        super().__init__()
        self.there, self.sizes = {t.untyped_storage().data_ptr() for t in there}, list[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in self.there:
            self.sizes.append(out.numel())
        return out


def test_absorbed_makes_no_key_no_value_and_no_copy_of_the_past() -> None:
    """Of what it makes, its scores alone grow with the past."""
    q, cache, up = drawn(1, 1000)
    with Made(q, cache, up.weight_HCr) as made:
        absorbed(q[:, 0], cache, up, 0.3)
    assert max(made.sizes) == 2 * H * 1000
    with Made(q, cache, up.weight_HCr) as made:
        expanded(q, cache, up, 0.3)
    assert max(made.sizes) >= 2 * H * 1000 * (K + ROTARY)
