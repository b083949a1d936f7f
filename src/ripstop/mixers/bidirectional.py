"""A causal mixer run both ways, for encoders: one scan forward and one backward, with weights of their own, summed."""

from __future__ import annotations

from typing import Annotated, Literal, NoReturn

import torch
from pydantic import field_validator
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.mixers import MIXERS
from ripstop.mixers.base import Mixer, MixerConfig, State
from ripstop.ops.segments import Segments, without_padding


class BidirectionalConfig(MixerConfig):
    """`mixer` is the causal mixer, with its own kind and hyperparameters."""

    kind: Literal["bidirectional"] = "bidirectional"
    mixer: Annotated[MixerConfig, MIXERS]

    @field_validator("mixer")
    @classmethod
    def _causal(cls, mixer: MixerConfig) -> MixerConfig:
        if not mixer.is_causal:
            raise ValueError(f"runs a causal mixer both ways, and this {mixer.kind} sees both ways already; use it alone")
        return mixer

    @property
    def is_causal(self) -> bool:
        return False

    def build(self, d_model: int) -> Bidirectional:
        return Bidirectional(self, d_model)

    def num_params(self, d_model: int) -> int:
        return 2 * self.mixer.num_params(d_model)

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        return 0  # what an encoder leaves behind is its output, which cross-attention accounts for

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        return 2 * self.mixer.flops_per_token(d_model, seq_len)


class Bidirectional(Mixer):
    """y = ahead(x) + reverse(back(reverse(x))), reversed within each document; no state, an encoder reads its source whole."""

    def __init__(self, config: BidirectionalConfig, d_model: int):
        super().__init__()
        self.ahead = config.mixer.build(d_model)
        self.back = config.mixer.build(d_model)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        if segments is None:
            return self.ahead(x_BTD) + self.back(x_BTD.flip(1)).flip(1)
        # Reversing the whole row would put its padding before the document.
        x_BTD = without_padding(x_BTD, segments)
        index_BTD = segments.reversal_BT.unsqueeze(-1).expand_as(x_BTD)
        back_BTD = self.back(x_BTD.gather(1, index_BTD), segments)
        return self.ahead(x_BTD, segments) + back_BTD.gather(1, index_BTD)

    def residual_outputs(self) -> list[Tensor]:
        return [*self.ahead.residual_outputs(), *self.back.residual_outputs()]

    def init_state(self, batch_size: int, max_len: int) -> NoReturn:
        raise _no_state()

    def prefill(self, x_BTD: Tensor, state: State) -> NoReturn:
        raise _no_state()

    def step(self, x_BD: Tensor, state: State) -> NoReturn:
        raise _no_state()


def _no_state() -> ConfigError:
    return ConfigError("bidirectional: reads its sequence whole and has no state; use it in an encoder, not a decoder")
