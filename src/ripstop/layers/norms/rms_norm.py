"""RMS normalisation as a layer: the operation with its weight."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.layers.norms.base import NormConfig
from ripstop.ops.normalize import rms_norm


class RMSNormConfig(NormConfig):
    """`eps` is added to the mean square."""

    kind: Literal["rms_norm"] = "rms_norm"
    eps: float = Field(1e-5, gt=0)

    def build(self, d_model: int) -> RMSNorm:
        return RMSNorm(d_model, self.eps)

    def num_params(self, d_model: int) -> int:
        return d_model


class RMSNorm(nn.Module):
    """`ops.normalize.rms_norm` over the last axis; the weight starts at one."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        return rms_norm(x_BTD, self.weight, self.eps)
