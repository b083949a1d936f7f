"""YaRN (arXiv 2309.00071): slow frequencies are interpolated and fast ones kept, and the softmax becomes sharper."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from ripstop.mixers.rope_scaling.base import RopeScalingConfig
from ripstop.ops.rotary_scaling import yarn_frequencies, yarn_sharpening


class YarnConfig(RopeScalingConfig):
    """Names of the published checkpoints' configurations. factor: how many times longer the texts are than
    `original_max_position_embeddings`, the longest that the model was trained on.

    beta_fast, beta_slow: turns in that length above which a frequency is kept, and below which it is interpolated.
    mscale_all_dim: how much sharper the softmax becomes, 0 for not at all. As in DeepSeek-V2 it acts on the whole product of
    query and key, of which only a part is rotated; the paper, whose heads are rotated whole, lets it act on cosine and sine.
    """

    kind: Literal["yarn"] = "yarn"
    factor: float = Field(ge=1)
    original_max_position_embeddings: int = Field(ge=1, le=2**30)
    beta_fast: float = Field(32.0, gt=0)
    beta_slow: float = Field(1.0, gt=0)
    mscale_all_dim: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _fast_turns_more(self) -> YarnConfig:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast {self.beta_fast} must be greater than beta_slow {self.beta_slow}")
        return self

    def frequencies(self, width: int, base: float) -> Tensor:
        length = self.original_max_position_embeddings
        return yarn_frequencies(width, base, self.factor, length, self.beta_fast, self.beta_slow)

    def sharpening(self) -> float:
        return yarn_sharpening(self.factor, self.mscale_all_dim)
