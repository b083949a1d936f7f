"""Gated DeltaNet (arXiv 2412.06464): a recurrent memory that forgets all of it a little, and overwrites what a key held."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ripstop.mixers.delta_heads import DeltaConfig, DeltaMixer


class GatedDeltaConfig(DeltaConfig):
    """The authors' block: one decay a head, an output gate by SiLU; twice as many channels of values as of keys."""

    kind: Literal["gated_delta"] = "gated_delta"

    @property
    def n_decays(self) -> int:
        return self.n_heads

    def gate_weights(self, d_model: int) -> int:
        return d_model * (self.n_heads + self.value_dim)

    def build(self, d_model: int) -> GatedDelta:
        return GatedDelta(self, d_model)


class GatedDelta(DeltaMixer):
    def __init__(self, config: GatedDeltaConfig, d_model: int):
        super().__init__(config, d_model)
        self.a_proj = nn.Linear(d_model, config.n_heads, bias=False)
        self.g_proj = nn.Linear(d_model, config.value_dim, bias=False)

    def _decay(self, x: Tensor) -> Tensor:
        return self.a_proj(x)

    def _gate(self, x: Tensor) -> Tensor:
        return F.silu(self.g_proj(x))
