"""Position interpolation (arXiv 2306.15595): every position stands for the `factor`-th part of itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from ripstop.mixers.rope_scaling.base import RopeScalingConfig
from ripstop.ops.rotary_scaling import linear_frequencies


class LinearConfig(RopeScalingConfig):
    """`factor`: how many times longer the texts are than those that the model was trained on."""

    kind: Literal["linear"] = "linear"
    factor: float = Field(ge=1)

    def frequencies(self, width: int, base: float) -> Tensor:
        return linear_frequencies(width, base, self.factor)
