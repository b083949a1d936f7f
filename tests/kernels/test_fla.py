"""flash-linear-attention's kernels against the recurrence, in bfloat16 on a GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.ops.delta_rule import delta_recurrent, delta_step
from ripstop.ops.segments import Segments

pytestmark = pytest.mark.gpu


def _inputs(n_time: int, K: int, P: int, n_decays: int) -> list[Tensor]:
    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(2, n_time, 4, K), dim=-1).bfloat16() for _ in range(2))
    g, beta = -torch.rand(2, n_time, 4, n_decays), torch.rand(2, n_time, 4)
    return [q, k, torch.randn(2, n_time, 4, P).bfloat16(), g, beta, torch.randn(2, 4, P, K)]


def _near(got: Tensor, wanted: Tensor) -> None:
    assert (got.double().cpu() - wanted).norm() < 1e-2 * wanted.norm()


@pytest.mark.parametrize(("n_time", "K", "P"), [(1, 64, 64), (100, 64, 128), (513, 32, 32)])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("with_segments", [False, True])
def test_chunks(n_time: int, K: int, P: int, per_channel: bool, with_segments: bool) -> None:
    kernels = pytest.importorskip("ripstop.kernels.adapters.fla", exc_type=ImportError)
    values = _inputs(n_time, K, P, K if per_channel else 1)[: 5 if with_segments else 6]
    numbers = (torch.arange(n_time) // 37 + torch.tensor([[0], [1]])) if with_segments else None
    slow = [t.double().requires_grad_() for t in values]
    fast = [t.cuda().requires_grad_() for t in values]
    o_slow, memory_slow = delta_recurrent(*slow[:5], None if with_segments else slow[5], Segments.of(numbers))
    on_device = None if numbers is None else Segments.of(numbers.cuda())
    inputs = (*fast[:5], None if with_segments else fast[5], on_device)
    trains = per_channel or kernels.untrainable(fast[0].device) is None
    if not trains:
        with pytest.raises(ConfigError, match="one decay a head has no gradients on Hopper with Triton"):
            kernels.delta(*inputs)
    with torch.set_grad_enabled(trains):
        o_fast, memory_fast = kernels.delta(*inputs)
    _near(o_fast, o_slow)
    if not with_segments:
        _near(memory_fast, memory_slow)
    if not trains:
        return
    do = torch.randn_like(o_slow).bfloat16()
    got = torch.autograd.grad(o_fast, fast, do.cuda())
    for a, b in zip(got, torch.autograd.grad(o_slow, slow, do.double()), strict=True):
        assert (a.double().cpu() - b).norm() < 3e-2 * b.norm() + 1e-6


@pytest.mark.parametrize("n_decays", [1, 64])
def test_step(n_decays: int) -> None:
    kernels = pytest.importorskip("ripstop.kernels.adapters.fla", exc_type=ImportError)
    *inputs, memory = _inputs(1, 64, 32, n_decays)
    token = [t[:, 0] for t in inputs]
    o_slow, memory_slow = delta_step(*(t.double() for t in token), memory.double())
    with torch.no_grad():
        o_fast, memory_fast = kernels.delta_step(*(t.cuda() for t in token), memory.cuda())
    _near(o_fast, o_slow)
    _near(memory_fast, memory_slow)
