"""flash-attn against explicit attention, in bfloat16 on a GPU."""

from __future__ import annotations

import pytest
import torch

from ripstop.ops.segments import Segments
from ripstop.ops.softmax_attention import attention_reference, visible

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (100, 100), (1, 77), (20, 77)])
@pytest.mark.parametrize(("causal", "window_size"), [(True, None), (False, None), (True, 9)])
@pytest.mark.parametrize("with_segments", [False, True])
def test_attention(n_queries: int, n_keys: int, causal: bool, window_size: int | None, with_segments: bool) -> None:
    kernels = pytest.importorskip("ripstop.kernels.adapters.flash_attn", exc_type=ImportError)
    if with_segments and n_queries != n_keys:
        pytest.skip("a past goes with one document")
    torch.manual_seed(0)
    shapes = [(2, n_queries, 4, 64), (2, n_keys, 2, 64), (2, n_keys, 2, 64)]
    values = [torch.randn(shape).bfloat16() for shape in shapes]
    numbers = torch.stack([torch.arange(n_keys) // 13, torch.arange(n_keys) // 60]) if with_segments else None
    slow, fast = [t.double().requires_grad_() for t in values], [t.cuda().requires_grad_() for t in values]
    y_slow = attention_reference(*slow, visible(n_queries, n_keys, causal, Segments.of(numbers), window_size))
    y_fast = kernels.attention(*fast, causal, None if numbers is None else Segments.of(numbers.cuda()), window_size)
    dy = torch.randn_like(y_slow).bfloat16()
    got, wanted = torch.autograd.grad(y_fast, fast, dy.cuda()), torch.autograd.grad(y_slow, slow, dy.double())
    for a, b in zip((y_fast, *got), (y_slow, *wanted), strict=True):
        assert (a.double().cpu() - b).norm() < 2e-2 * b.norm() + 1e-5  # one key alone: exactly 0, and 2e-6 in bfloat16
