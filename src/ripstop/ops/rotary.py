"""Rotary position embedding (RoPE): queries and keys turned by an angle that grows with their position."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x_BTHK: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Turn each pair (x_k, x_{k + K/2}) by position * base^(-2k/K): RoFormer, arXiv 2104.09864, Eq. (34).

    positions: (T,) or (B, T), absolute. The product of a rotated query and key depends on their distance only. K is even.
    Angles are computed in float32 at least: in bfloat16, positions above 256 would coincide.
    """
    half = x_BTHK.shape[-1] // 2
    dtype = torch.promote_types(x_BTHK.dtype, torch.float32)
    index = torch.arange(half, dtype=dtype, device=x_BTHK.device)
    angle = positions.to(dtype).unsqueeze(-1) * base ** (-index / half)  # ([B,] T, K/2)
    cos, sin = angle.cos().unsqueeze(-2), angle.sin().unsqueeze(-2)
    x1, x2 = x_BTHK.to(dtype).chunk(2, -1)
    return torch.cat([x1 * cos - x2 * sin, x1 * sin + x2 * cos], -1).to(x_BTHK.dtype)
