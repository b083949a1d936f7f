"""Mamba-2 (arXiv 2405.21060): a selective state-space mixer whose memory has one size at every length."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ripstop.config import ConfigError, Size
from ripstop.kernels import state_space
from ripstop.mixers.base import Mixer, MixerConfig
from ripstop.mixers.short_conv import ShortConv, conv_backend
from ripstop.ops.normalize import gated_rms_norm
from ripstop.ops.segments import Segments, without_padding
from ripstop.ops.state_space import precision


class Mamba2State(NamedTuple):
    """conv: (B, d_conv - 1, channels), the last inputs of the convolution; ssm: (B, H, P, N), in float32 at least."""

    conv: Tensor
    ssm: Tensor


class Mamba2Config(MixerConfig):
    """Names and defaults of the authors' `Mamba2` module. Heads: expand * d_model / head_dim."""

    kind: Literal["mamba2"] = "mamba2"
    d_state: Size = 64
    d_conv: int = Field(4, ge=2, le=2**10)
    expand: Size = 2
    head_dim: Size = 64
    n_groups: Size = Field(1, description="groups of heads that share B and C")
    chunk_size: Size = 64
    A_init_range: tuple[float, float] = (1.0, 16.0)
    dt_init_range: tuple[float, float] = (1e-3, 0.1)
    backend: Literal["auto", "reference", "torch", "mamba_ssm"] = "auto"

    @model_validator(mode="after")
    def _ranges(self) -> Mamba2Config:
        for name in ("A_init_range", "dt_init_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two positive numbers, the smaller first, not {[low, high]}")
        return self

    def n_heads(self, d_model: int) -> int:
        n_heads, rest = divmod(self.expand * d_model, self.head_dim)
        if rest or n_heads % self.n_groups:
            raise ConfigError(
                f"mamba2: expand * d_model = {self.expand * d_model} must be a multiple of head_dim * n_groups = "
                f"{self.head_dim * self.n_groups}; change head_dim or n_groups"
            )
        return n_heads

    def conv_channels(self, d_model: int) -> int:
        return self.expand * d_model + 2 * self.n_groups * self.d_state

    def build(self, d_model: int) -> Mamba2:
        return Mamba2(self, d_model)

    def num_params(self, d_model: int) -> int:
        d_inner, n_heads, channels = self.expand * d_model, self.n_heads(d_model), self.conv_channels(d_model)
        projections = d_model * (d_inner + channels + n_heads) + d_inner * d_model
        return projections + channels * (self.d_conv + 1) + 3 * n_heads + d_inner

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        ssm = self.expand * d_model * self.d_state * torch.promote_types(dtype, torch.float32).itemsize
        return ssm + (self.d_conv - 1) * self.conv_channels(d_model) * dtype.itemsize

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        """Projections, convolution, and the recurrence itself (one update and one read of the state), in whatever form."""
        d_inner, n_heads, channels = self.expand * d_model, self.n_heads(d_model), self.conv_channels(d_model)
        projections = 2 * d_model * (d_inner + channels + n_heads) + 2 * d_inner * d_model
        return projections + 2 * self.d_conv * channels + 4 * d_inner * self.d_state


class Mamba2(Mixer):
    """Parameters by the names, shapes and order of mamba-ssm's and transformers' modules: their weights fit one to one.

    `A_log`, `D`, `dt_bias`, the convolution's bias and the norm's weight are vectors: like every parameter with fewer than two
    axes they are given no weight decay by the optimizer.
    """

    def __init__(self, config: Mamba2Config, d_model: int):
        super().__init__()
        self.config = config
        self.d_inner, self.n_heads = config.expand * d_model, config.n_heads(d_model)
        channels = config.conv_channels(d_model)
        self.in_proj = nn.Linear(d_model, self.d_inner + channels + self.n_heads, bias=False)  # z, (x, B, C), dt
        self.conv1d = ShortConv(channels, config.d_conv, silu=True, backend=conv_backend(config.backend))
        low, high = (math.log(bound) for bound in config.dt_init_range)
        dt_H = torch.exp(torch.empty(self.n_heads).uniform_(low, high))
        self.dt_bias = nn.Parameter(dt_H + torch.log(-torch.expm1(-dt_H)))  # the inverse of softplus
        self.A_log = nn.Parameter(torch.empty(self.n_heads).uniform_(*config.A_init_range).log())
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = GatedNorm(self.d_inner, config.n_groups)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        z, xBC, dt = self._project(without_padding(x_BTD, segments))
        x_BTHP, B_BTGN, C_BTGN, dt_BTH, A_H = self._inputs(self.conv1d(xBC, None, segments), dt)
        inputs = (x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, self.D, segments, self.config.chunk_size)
        return without_padding(self._combine(state_space.ssd(self.config.backend, *inputs), z), segments)

    def init_state(self, batch_size: int, max_len: int) -> Mamba2State:
        config, weight = self.config, self.in_proj.weight
        shape = (batch_size, self.n_heads, config.head_dim, config.d_state)
        return Mamba2State(self.conv1d.init_past(batch_size), weight.new_zeros(shape, dtype=precision(weight)))

    def prefill(self, x_BTD: Tensor, state: Mamba2State) -> tuple[Tensor, Mamba2State]:
        if x_BTD.shape[1] == 0:
            return x_BTD, state
        z, xBC, dt = self._project(x_BTD)
        xBC, conv = self.conv1d.prefill(xBC, state.conv)
        x_BTHP, B_BTGN, C_BTGN, dt_BTH, A_H = self._inputs(xBC, dt)
        inputs = (x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, self.D, state.ssm, self.config.chunk_size)
        y_BTHP, ssm = state_space.ssd_after(self.config.backend, *inputs)
        return self._combine(y_BTHP, z), Mamba2State(conv, ssm)

    def step(self, x_BD: Tensor, state: Mamba2State) -> tuple[Tensor, Mamba2State]:
        z, xBC, dt = self._project(x_BD)
        xBC, conv = self.conv1d.step(xBC, state.conv)
        x_BHP, B_BGN, C_BGN, dt_BH, A_H = self._inputs(xBC, dt)
        y_BHP, ssm = state_space.ssd_step(self.config.backend, x_BHP, dt_BH, A_H, B_BGN, C_BGN, self.D, state.ssm)
        return self._combine(y_BHP, z), Mamba2State(conv, ssm)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, xBC, dt = self.in_proj(x).split([self.d_inner, self.conv1d.weight.shape[0], self.n_heads], -1)
        return z, xBC, dt

    def _inputs(self, xBC: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x, B, C, dt and A of the recurrence, with or without a time axis."""
        config = self.config
        width = config.n_groups * config.d_state
        x, B, C = xBC.split([self.d_inner, width, width], -1)
        groups = (config.n_groups, config.d_state)
        # exp and softplus in full precision: the decay is taken to the power of the distance.
        dt = F.softplus(dt.to(precision(dt)) + self.dt_bias)
        A_H = -self.A_log.to(precision(dt)).exp()
        return x.unflatten(-1, (self.n_heads, config.head_dim)), B.unflatten(-1, groups), C.unflatten(-1, groups), dt, A_H

    def _combine(self, y: Tensor, z: Tensor) -> Tensor:
        """Heads back to the model's width, with or without a time axis."""
        return self.out_proj(self.norm(y.flatten(-2), z))


class GatedNorm(nn.Module):
    """`ops.normalize.gated_rms_norm` with its weight."""

    def __init__(self, n_channels: int, n_groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.n_groups = n_groups

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        return gated_rms_norm(y, z, self.weight, self.n_groups)
