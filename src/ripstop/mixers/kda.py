"""Kimi Delta Attention (arXiv 2510.26692): the gated delta rule with a decay of its own for each channel of the keys."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ripstop.config import Size
from ripstop.mixers.delta_heads import DeltaConfig, DeltaMixer


class KDAConfig(DeltaConfig):
    """The authors' block: decays and the output's gate, by a sigmoid, come through a bottleneck of head_v_dim."""

    kind: Literal["kda"] = "kda"
    head_v_dim: Size = 64

    @property
    def n_decays(self) -> int:
        return self.key_dim

    def gate_weights(self, d_model: int) -> int:
        return self.head_v_dim * (2 * d_model + self.key_dim + self.value_dim)

    def num_params(self, d_model: int) -> int:
        return super().num_params(d_model) + self.value_dim  # the gate's bias

    def build(self, d_model: int) -> KDA:
        return KDA(self, d_model)


class KDA(DeltaMixer):
    def __init__(self, config: KDAConfig, d_model: int):
        super().__init__(config, d_model)
        rank = config.head_v_dim
        self.f_proj = nn.Sequential(nn.Linear(d_model, rank, bias=False), nn.Linear(rank, config.key_dim, bias=False))
        self.g_proj = nn.Sequential(nn.Linear(d_model, rank, bias=False), nn.Linear(rank, config.value_dim))

    def _decay(self, x: Tensor) -> Tensor:
        return self.f_proj(x)

    def _gate(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.g_proj(x))
