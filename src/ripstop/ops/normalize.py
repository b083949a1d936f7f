"""RMS normalisation, plain and gated as in Mamba-2; computed in float32 at least."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x_BTD: Tensor, weight_D: Tensor, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, Eq. 4)."""
    dtype = torch.promote_types(x_BTD.dtype, torch.float32)
    return F.rms_norm(x_BTD.to(dtype), weight_D.shape, weight_D.to(dtype), eps).to(x_BTD.dtype)


def gated_rms_norm(y_BTC: Tensor, z_BTC: Tensor, weight_C: Tensor, n_groups: int = 1, eps: float = 1e-5) -> Tensor:
    """rms_norm(y * silu(z)), the mean taken over each of `n_groups` equal parts of the channels.

    Mamba-2's output norm (arXiv 2405.21060, section 7.1), as `norm_before_gate=False` of its authors' code.
    """
    dtype = torch.promote_types(y_BTC.dtype, torch.float32)
    gated = y_BTC.to(dtype) * F.silu(z_BTC.to(dtype))
    if n_groups == 1:
        return F.rms_norm(gated, weight_C.shape, weight_C.to(dtype), eps).to(y_BTC.dtype)
    gated = gated.unflatten(-1, (n_groups, -1))
    normed = F.rms_norm(gated, gated.shape[-1:], eps=eps).flatten(-2)
    return (normed * weight_C.to(dtype)).to(y_BTC.dtype)
