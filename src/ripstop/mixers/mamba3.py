"""Mamba-3 (arXiv 2603.15569): a state space with a trapezoidal rule and a complex state, and no convolution in front."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ripstop.config import ConfigError, Size
from ripstop.kernels import trapezoidal
from ripstop.mixers.base import Mixer, MixerConfig
from ripstop.mixers.step_sizes import Range, dt_bias
from ripstop.ops.normalize import rms_norm
from ripstop.ops.segments import Segments, without_padding
from ripstop.ops.state_space import precision
from ripstop.ops.trapezoidal import Projected, Trapezoid


class Mamba3State(NamedTuple):
    """h_BHPN and angle_BHR, what the state has been turned by, in float32 at least; B_BHN and x_BHP of the last token."""

    h_BHPN: Tensor
    B_BHN: Tensor
    x_BHP: Tensor
    angle_BHR: Tensor


class Mamba3Config(MixerConfig):
    """Names and defaults of the authors' `Mamba3` module, one input and output a head. Heads: expand * d_model / head_dim."""

    kind: Literal["mamba3"] = "mamba3"
    d_state: Size = 128
    expand: Size = 2
    head_dim: Size = 64
    n_groups: Size = Field(1, description="groups of heads that share B and C")
    rope_fraction: float = Field(0.5, ge=0, le=1, description="part of the state that is complex; 0 keeps it real")
    chunk_size: Size = 64
    A_floor: float = Field(1e-4, gt=0)
    dt_init_range: Range = (1e-3, 0.1)
    backend: Literal["auto", "reference", "torch", "mamba_ssm"] = "auto"

    @model_validator(mode="after")
    def _has_a_pair(self) -> Mamba3Config:
        if self.rope_fraction and not self.n_angles:
            raise ValueError(f"d_state {self.d_state} has no pair to turn at rope_fraction {self.rope_fraction}; set it to 0")
        return self

    @property
    def n_angles(self) -> int:
        return int(self.d_state * self.rope_fraction) // 2

    def n_heads(self, d_model: int) -> int:
        n_heads, rest = divmod(self.expand * d_model, self.head_dim)
        if rest or n_heads % self.n_groups:
            raise ConfigError(
                f"mamba3: expand * d_model = {self.expand * d_model} must be a multiple of head_dim * n_groups = "
                f"{self.head_dim * self.n_groups}; change head_dim or n_groups"
            )
        return n_heads

    def parts(self, d_model: int) -> list[int]:
        """Widths of what the input is projected to: z, x, B, C, dt, A, lambda, angles."""
        d_inner, width, n_heads = self.expand * d_model, self.n_groups * self.d_state, self.n_heads(d_model)
        return [d_inner, d_inner, width, width, n_heads, n_heads, n_heads, self.n_angles]

    def build(self, d_model: int) -> Mamba3:
        return Mamba3(self, d_model)

    def num_params(self, d_model: int) -> int:
        n_heads, d_inner = self.n_heads(d_model), self.expand * d_model
        vectors = 2 * n_heads + 2 * n_heads * self.d_state + 2 * self.d_state  # dt_bias, D; biases and norms of B and C
        return d_model * (sum(self.parts(d_model)) + d_inner) + vectors

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        n_heads, d_inner = self.n_heads(d_model), self.expand * d_model
        full = torch.promote_types(dtype, torch.float32).itemsize
        return (d_inner * self.d_state + n_heads * self.n_angles) * full + (n_heads * self.d_state + d_inner) * dtype.itemsize

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        """Projections, and the recurrence itself: one update by this token and the last, and one read of the state."""
        d_inner = self.expand * d_model
        return 2 * d_model * (sum(self.parts(d_model)) + d_inner) + 6 * d_inner * self.d_state


class Mamba3(Mixer):
    """Parameters by the names, shapes and order of mamba-ssm's module, but for an axis of one in the biases."""

    def __init__(self, config: Mamba3Config, d_model: int):
        super().__init__()
        self.config = config
        self.d_inner, self.n_heads = config.expand * d_model, config.n_heads(d_model)
        self.parts = config.parts(d_model)
        self.in_proj = nn.Linear(d_model, sum(self.parts), bias=False)
        self.dt_bias = nn.Parameter(dt_bias(self.n_heads, config.dt_init_range))
        self.B_bias = nn.Parameter(torch.ones(self.n_heads, config.d_state))
        self.C_bias = nn.Parameter(torch.ones(self.n_heads, config.d_state))
        self.B_norm = nn.Parameter(torch.ones(config.d_state))
        self.C_norm = nn.Parameter(torch.ones(config.d_state))
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        z, projected = self._project(without_padding(x_BTD, segments))
        y_BTHP = trapezoidal.scan(self.config.backend, projected, segments, self.config.chunk_size)
        return without_padding(self._combine(y_BTHP, projected, z), segments)

    def init_state(self, batch_size: int, max_len: int) -> Mamba3State:
        config, weight = self.config, self.in_proj.weight
        full, rows = precision(weight), (batch_size, self.n_heads)
        return Mamba3State(
            weight.new_zeros(*rows, config.head_dim, config.d_state, dtype=full),
            weight.new_zeros(*rows, config.d_state),
            weight.new_zeros(*rows, config.head_dim),
            weight.new_zeros(*rows, config.n_angles, dtype=full),
        )

    def prefill(self, x_BTD: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
        if x_BTD.shape[1] == 0:
            return x_BTD, state
        z, projected = self._project(x_BTD)
        chunk_size = self.config.chunk_size
        y_BTHP, past, angle_BHR = trapezoidal.scan_after(self.config.backend, projected, *_past(state), chunk_size)
        return self._combine(y_BTHP, projected, z), _state(state, past, angle_BHR)

    def step(self, x_BD: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
        z, projected = self._project(x_BD.unsqueeze(1))
        y_BTHP, past, angle_BHR = trapezoidal.step(self.config.backend, projected, *_past(state))
        return self._combine(y_BTHP, projected, z).squeeze(1), _state(state, past, angle_BHR)

    def _project(self, x_BTD: Tensor) -> tuple[Tensor, Projected]:
        config, full = self.config, precision(x_BTD)
        z, x, B, C, dt, A, trap, turn = self.in_proj(x_BTD).split(self.parts, -1)
        # Decays in full precision: they are multiplied over the whole past.
        dt_BTH = F.softplus(dt.to(full) + self.dt_bias)
        a_BTH = -F.softplus(A.to(full)).clamp(min=config.A_floor) * dt_BTH
        B_BTGN, C_BTGN = (
            rms_norm(M.unflatten(-1, (config.n_groups, -1)), weight) for M, weight in ((B, self.B_norm), (C, self.C_norm))
        )
        x_BTHP = x.unflatten(-1, (self.n_heads, config.head_dim))
        return z, Projected(x_BTHP, dt_BTH, a_BTH, trap, B_BTGN, C_BTGN, self.B_bias, self.C_bias, turn)

    def _combine(self, y_BTHP: Tensor, projected: Projected, z: Tensor) -> Tensor:
        """Skip, gate, and heads back to the model's width."""
        y = y_BTHP + self.D.unsqueeze(-1) * projected.x_BTHP
        return self.out_proj(y.flatten(-2).to(z.dtype) * F.silu(z))


def _past(state: Mamba3State) -> tuple[Trapezoid, Tensor]:
    return Trapezoid(state.h_BHPN, state.B_BHN, state.x_BHP), state.angle_BHR


def _state(before: Mamba3State, past: Trapezoid, angle_BHR: Tensor) -> Mamba3State:
    """In the precision of the state before. An angle beyond a turn is the one within it, which is more exact."""
    after = (*past, angle_BHR.remainder(2 * math.pi))
    return Mamba3State(*(new.to(old.dtype) for new, old in zip(after, before, strict=True)))
