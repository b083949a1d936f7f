"""RMS normalisation as a layer: the operation with its weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ripstop.ops.normalize import rms_norm


class RMSNorm(nn.Module):
    """`ops.normalize.rms_norm` over the last axis; the weight starts at one."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        return rms_norm(x_BTD, self.weight, self.eps)
