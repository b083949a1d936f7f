"""The mlp: mixes channels at every position alone."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import Strict


class MlpConfig(Strict):
    """The width is `d_mlp` where given, else `expand * d_model` rounded."""

    activation: Literal["swiglu", "gelu"] = "swiglu"
    expand: float = Field(4.0, gt=0, le=2**10)
    d_mlp: int | None = Field(None, ge=1, le=2**20)

    def width(self, d_model: int) -> int:
        return max(1, round(self.expand * d_model)) if self.d_mlp is None else self.d_mlp

    def build(self, d_model: int) -> Mlp:
        return Mlp(self, d_model)

    def num_params(self, d_model: int) -> int:
        return (3 if self.activation == "swiglu" else 2) * d_model * self.width(d_model)

    def flops_per_token(self, d_model: int) -> int:
        """The matrix products alone: 2 a weight."""
        return 2 * self.num_params(d_model)


class Mlp(nn.Module):
    """out(silu(gate(x)) * up(x)), the SwiGLU of arXiv 2002.05202, Eq. (6), or out(gelu(up(x))); no biases."""

    def __init__(self, config: MlpConfig, d_model: int):
        super().__init__()
        self.gated = config.activation == "swiglu"
        width = config.width(d_model)
        self.in_proj = nn.Linear(d_model, 2 * width if self.gated else width, bias=False)
        self.out_proj = nn.Linear(width, d_model, bias=False)

    def residual_outputs(self) -> list[Tensor]:
        """As of a mixer: the weights whose products are the output's terms."""
        return [self.out_proj.weight]

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden = self.in_proj(x_BTD)
        if self.gated:
            gate, up = hidden.chunk(2, -1)
            return self.out_proj(F.silu(gate) * up)
        return self.out_proj(F.gelu(hidden))
