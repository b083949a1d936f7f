"""The short causal convolution in front of a mixer, and its past as state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ripstop.kernels import convolution, reads
from ripstop.ops.convolution import next_past
from ripstop.ops.segments import Segments


class ShortConv(nn.Module):
    """Causal depthwise convolution over time with bias; SiLU after it where `silu`.

    `weight` is (C, 1, W) as in `nn.Conv1d(groups=C)`, so that weights of other Mamba-2 modules fit. The past is (B, W - 1, C).
    """

    def __init__(self, n_channels: int, width: int, silu: bool, backend: str):
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(n_channels, 1, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_channels).uniform_(-bound, bound))
        self.silu, self.backend = silu, backend

    def forward(self, x_BTC: Tensor, past_BWC: Tensor | None = None, segments: Segments | None = None) -> Tensor:
        weight_CW = self.weight.squeeze(1)
        return convolution.causal_conv(self.backend, x_BTC, weight_CW, self.bias, past_BWC, segments, self.silu)

    def init_past(self, batch_size: int) -> Tensor:
        n_channels, _, width = self.weight.shape
        return self.weight.new_zeros(batch_size, width - 1, n_channels)

    def prefill(self, x_BTC: Tensor, past_BWC: Tensor) -> tuple[Tensor, Tensor]:
        """A chunk after a past: output, next past."""
        reads.wrote(past_BWC)
        return self(x_BTC, past_BWC), next_past(x_BTC, self.weight.shape[2], past_BWC)

    def step(self, x_BC: Tensor, past_BWC: Tensor) -> tuple[Tensor, Tensor]:
        """One token: output, next past."""
        return convolution.causal_conv_step(self.backend, x_BC, self.weight.squeeze(1), self.bias, past_BWC, self.silu)


def conv_backend(backend: str) -> str:
    """The convolution's backend beside a mixer's: the portable forms go together, a mixer's own kernel leaves it free."""
    return backend if backend in ("reference", "torch") else "auto"
