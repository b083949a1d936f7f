"""RMS norms: by hand, by groups, in low precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ripstop.ops.normalize import gated_rms_norm, rms_norm


def test_by_hand() -> None:
    x, weight = torch.tensor([[[3.0, 4.0]]]), torch.tensor([1.0, 10.0])
    torch.testing.assert_close(rms_norm(x, weight, eps=0.0), x / 12.5**0.5 * weight)


@pytest.mark.parametrize("n_groups", [1, 3])
def test_gated_norm_is_the_norm_of_the_gated_value(n_groups: int) -> None:
    y, z = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(2, 5, 12, dtype=torch.float64)
    weight = torch.randn(12, dtype=torch.float64)
    gated = (y * z * torch.sigmoid(z)).unflatten(-1, (n_groups, -1))
    wanted = (gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2) * weight
    torch.testing.assert_close(gated_rms_norm(y, z, weight, n_groups), wanted)
    inputs = [t[:1, :2].requires_grad_() if t.ndim > 1 else t.requires_grad_() for t in (y, z, weight)]
    torch.autograd.gradcheck(lambda *a: gated_rms_norm(*a, n_groups), inputs)


def test_bfloat16_is_normalised_in_float32() -> None:
    y, z, weight = torch.randn(64).bfloat16(), torch.randn(64).bfloat16(), torch.ones(64)
    wanted = F.rms_norm(y.float() * F.silu(z.float()), (64,), weight, 1e-5)
    assert torch.equal(gated_rms_norm(y, z, weight), wanted.bfloat16())
