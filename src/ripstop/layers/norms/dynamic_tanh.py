"""Dynamic tanh as a layer: squashes instead of normalising, so that a token's channels need not be read together."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.layers.norms.base import NormConfig


class DynamicTanhConfig(NormConfig):
    """`alpha`: where the slope, which is learned, starts. The paper takes 0.5; for language models less, the wider they are."""

    kind: Literal["dynamic_tanh"] = "dynamic_tanh"
    alpha: float = Field(0.5, gt=0)

    def build(self, d_model: int) -> DynamicTanh:
        return DynamicTanh(d_model, self.alpha)

    def num_params(self, d_model: int) -> int:
        return 2 * d_model + 1


class DynamicTanh(nn.Module):
    """weight * tanh(alpha * x) + bias (arXiv 2503.10622, section 4), in float32 at least; alpha is one number for the layer."""

    def __init__(self, d_model: int, alpha: float = 0.5):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), alpha))
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x_BTD: Tensor) -> Tensor:
        dtype = torch.promote_types(x_BTD.dtype, torch.float32)
        squashed = torch.tanh(self.alpha.to(dtype) * x_BTD.to(dtype))
        return (squashed * self.weight.to(dtype) + self.bias.to(dtype)).to(x_BTD.dtype)
