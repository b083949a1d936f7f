"""Step sizes of recurrent mixers: the range that they are drawn from, and the bias that stands for them before softplus."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import AfterValidator, ValidationInfo
from torch import Tensor


def _rising(ends: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
    low, high = ends
    if not 0 < low <= high:
        raise ValueError(f"{info.field_name} must be two positive numbers, the smaller first, not {[low, high]}")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
"""The smallest and the largest of what is drawn."""


def dt_bias(n: int, ends: tuple[float, float]) -> Tensor:
    """`n` biases whose softplus is log-uniform in the range (arXiv 2312.00752, section 3.6)."""
    low, high = (math.log(end) for end in ends)
    dt = torch.exp(torch.empty(n).uniform_(low, high))
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus
