"""Frequencies of rotary position embedding, as they are and stretched to longer texts: linear and YaRN; and turning by them.

A frequency is the angle that one position adds. All are computed in float64 on the CPU, once a model: see `mixers/rope.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def plain_frequencies(width: int, base: float) -> Tensor:
    """base^(-2k/K), (K/2,): RoFormer, arXiv 2104.09864, Eq. (15). width: K, even."""
    return base ** (-torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width)


def linear_frequencies(width: int, base: float, factor: float) -> Tensor:
    """All divided by `factor`: position interpolation, arXiv 2306.15595, section 2.3."""
    return plain_frequencies(width, base) / factor


def yarn_frequencies(width: int, base: float, factor: float, original_len: int, beta_fast: float, beta_slow: float) -> Tensor:
    """Those that turn more than `beta_fast` times in `original_len` positions stay, those that turn less than `beta_slow` times
    are divided by `factor`, and between the two there is a ramp: "NTK by parts" of YaRN, arXiv 2309.00071, section 3.2.

    The ramp is straight in the index of the frequency, from a whole index to another, as in the authors' code; the paper's is
    in the turns.
    """
    frequency_K, index_K = plain_frequencies(width, base), torch.arange(width // 2, dtype=torch.float64, device="cpu")

    def index_of(turns: float) -> float:
        """Where a frequency turns so many times: width / 2 * log_base(original_len / (2 pi turns))."""
        return width * math.log(original_len / (2 * math.pi * turns)) / (2 * math.log(base))

    first, last = max(math.floor(index_of(beta_fast)), 0), min(math.ceil(index_of(beta_slow)), width - 1)
    stretched_K = ((index_K - first) / max(last - first, 1e-3)).clamp(0, 1)
    return frequency_K * (1 - stretched_K) + frequency_K / factor * stretched_K


def yarn_sharpening(factor: float, mscale: float) -> float:
    """(0.1 mscale ln(factor) + 1)^2, by which the logits of a longer text are multiplied: 1/t of YaRN, section 3.4, with the
    `mscale` of DeepSeek-V2 (arXiv 2405.04434, section 3.1.4, where it is 0.707)."""
    return (0.1 * mscale * math.log(factor) + 1) ** 2


def turn(x_BTHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_k, x_{k + K/2}) by its angle, in the precision of the angles; RoFormer, Eq. (34).

    cos, sin: of positions times frequencies, ([B,] T, 1, K/2).
    """
    x1, x2 = x_BTHK.to(cos.dtype).chunk(2, -1)
    return torch.cat([x1 * cos - x2 * sin, x1 * sin + x2 * cos], -1).to(x_BTHK.dtype)
