"""RMS normalisation, plain and gated as in Mamba-2; computed in float32 at least.

Each has a backward of its own, with fewer passes over memory than autograd makes; a compiler, which fuses them, is shown the
plain formula.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x_BTD: Tensor, weight_D: Tensor, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, Eq. 4)."""
    dtype = torch.promote_types(x_BTD.dtype, torch.float32)
    x, weight = x_BTD.to(dtype), weight_D.to(dtype)
    if _fuses(x):
        return F.rms_norm(x, weight_D.shape, weight, eps).to(x_BTD.dtype)
    return _RMSNorm.apply(x, weight, eps).to(x_BTD.dtype)


def gated_rms_norm(y_BTC: Tensor, z_BTC: Tensor, weight_C: Tensor, n_groups: int = 1, eps: float = 1e-5) -> Tensor:
    """rms_norm(y * silu(z)), the mean taken over each of `n_groups` equal parts of the channels.

    Mamba-2's output norm (arXiv 2405.21060, section 7.1), as `norm_before_gate=False` of its authors' code.
    """
    dtype = torch.promote_types(y_BTC.dtype, torch.float32)
    groups = (n_groups, weight_C.shape[0] // n_groups)
    y, z = (t.to(dtype).unflatten(-1, groups) for t in (y_BTC, z_BTC))
    weight = weight_C.to(dtype).unflatten(-1, groups)
    fused = _fuses(y)
    normed = F.rms_norm(y * F.silu(z), groups[1:], eps=eps) * weight if fused else _GatedRMSNorm.apply(y, z, weight, eps)
    return normed.flatten(-2).to(y_BTC.dtype)


def _fuses(x: Tensor) -> bool:
    """Whether one kernel does it all: a compiler's, or CUDA's."""
    return torch.compiler.is_compiling() or x.is_cuda


class _RMSNorm(torch.autograd.Function):
    """x over the last axis; the weight has its last axes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = _scale(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        return *_differentiate(dy, x * scale, weight, scale), None


class _GatedRMSNorm(torch.autograd.Function):
    """`_RMSNorm` of y * silu(z)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, eps: float) -> Tensor:
        gate = F.silu(z)
        gated = y * gate
        scale = _scale(gated, eps)
        normed = gated.mul_(scale)
        ctx.save_for_backward(y, z, weight, gate, normed, scale)
        return normed * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        y, z, weight, gate, normed, scale = ctx.saved_tensors
        dgated, dweight = _differentiate(dy, normed, weight, scale)
        dz = torch.ops.aten.silu_backward(dgated * y, z)
        return dgated.mul_(gate), dz, dweight, None


def _scale(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps), with the last axis as 1."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def _differentiate(dy: Tensor, normed: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight where n = x * scale, y = n * weight: dx = scale (dn - n mean(dn n)), dn = dy * weight."""
    terms = dy * normed
    dweight = terms.flatten(0, dy.ndim - 1 - weight.ndim).sum(0) if dy.ndim > weight.ndim else terms
    mean = terms.mul_(weight).mean(-1, keepdim=True).neg_()
    return torch.mul(dy, weight, out=terms).addcmul_(normed, mean).mul_(scale), dweight
