"""Heads of the gated delta rule: what `gated_delta` and `kda` have in common."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import Size
from ripstop.kernels import delta_rule
from ripstop.mixers.base import Mixer, MixerConfig, missing
from ripstop.mixers.short_conv import ShortConv, conv_backend
from ripstop.mixers.step_sizes import Range, dt_bias
from ripstop.ops.normalize import rms_norm
from ripstop.ops.segments import Segments, without_padding
from ripstop.ops.state_space import precision


class DeltaState(NamedTuple):
    """conv: (B, d_conv - 1, channels), the last inputs of the convolution; memory: (B, H, P, K), in float32 at least."""

    conv: Tensor
    memory: Tensor


class DeltaConfig(MixerConfig):
    """Each head holds a memory of head_v_dim x head_k_dim numbers, whatever d_model is."""

    n_heads: Size = 4
    head_k_dim: Size = 64
    head_v_dim: Size = 128
    d_conv: int = Field(4, ge=2, le=2**10)
    negative_eigenvalues: bool = Field(False, description="what a key held may be replaced twice over (arXiv 2411.12537)")
    chunk_size: Size = 64
    A_init_range: Range = (1.0, 16.0)
    dt_init_range: Range = (1e-3, 0.1)
    backend: Literal["auto", "reference", "torch", "fla"] = "auto"

    @property
    def key_dim(self) -> int:
        return self.n_heads * self.head_k_dim

    @property
    def value_dim(self) -> int:
        return self.n_heads * self.head_v_dim

    @property
    def conv_channels(self) -> int:
        return 2 * self.key_dim + self.value_dim

    @property
    def n_decays(self) -> int:
        """Decays of a token: one a head, or one a channel of the keys."""
        missing(self, "n_decays")

    def gate_weights(self, d_model: int) -> int:
        """Weights of the linear maps to the decays and to the output's gate."""
        missing(self, "gate_weights(self, d_model)")

    def linear_weights(self, d_model: int) -> int:
        projections = d_model * (self.conv_channels + self.n_heads) + self.value_dim * d_model
        return projections + self.gate_weights(d_model)

    def num_params(self, d_model: int) -> int:
        vectors = self.n_heads + self.n_decays + self.head_v_dim  # A_log, dt_bias, the norm's weight
        return self.linear_weights(d_model) + self.conv_channels * (self.d_conv + 1) + vectors

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        memory = self.value_dim * self.head_k_dim * torch.promote_types(dtype, torch.float32).itemsize
        return memory + (self.d_conv - 1) * self.conv_channels * dtype.itemsize

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        """Projections, convolution, and the recurrence itself: what the key finds, what is written, what the query finds."""
        recurrence = 6 * self.value_dim * self.head_k_dim
        return 2 * self.linear_weights(d_model) + 2 * self.d_conv * self.conv_channels + recurrence


class DeltaMixer(Mixer):
    """Queries and keys of length 1, behind a short convolution; the output is normalised by head, then gated.

    Subclasses add the maps of `_decay` and `_gate`. `A_log`, `dt_bias` and other vectors are given no weight decay.
    """

    def __init__(self, config: DeltaConfig, d_model: int):
        super().__init__()
        self.config = config
        self.qkv_proj = nn.Linear(d_model, config.conv_channels, bias=False)
        self.b_proj = nn.Linear(d_model, config.n_heads, bias=False)
        self.conv1d = ShortConv(config.conv_channels, config.d_conv, silu=True, backend=conv_backend(config.backend))
        self.dt_bias = nn.Parameter(dt_bias(config.n_decays, config.dt_init_range))
        self.A_log = nn.Parameter(torch.empty(config.n_heads).uniform_(*config.A_init_range).log())
        self.norm = nn.Parameter(torch.ones(config.head_v_dim))
        self.out_proj = nn.Linear(config.value_dim, d_model, bias=False)

    def _decay(self, x: Tensor) -> Tensor:
        """What softplus is taken of, the bias apart: (..., n_decays)."""
        missing(self, "_decay(self, x)")

    def _gate(self, x: Tensor) -> Tensor:
        """What the output is multiplied with, (..., value_dim)."""
        missing(self, "_gate(self, x)")

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        x_BTD = without_padding(x_BTD, segments)
        inputs = self._inputs(x_BTD, self.conv1d(self.qkv_proj(x_BTD), None, segments))
        o_BTHP = delta_rule.delta(self.config.backend, *inputs, segments, self.config.chunk_size)
        return without_padding(self._combine(o_BTHP, x_BTD), segments)

    def init_state(self, batch_size: int, max_len: int) -> DeltaState:
        config, weight = self.config, self.out_proj.weight
        shape = (batch_size, config.n_heads, config.head_v_dim, config.head_k_dim)
        return DeltaState(self.conv1d.init_past(batch_size), weight.new_zeros(shape, dtype=precision(weight)))

    def prefill(self, x_BTD: Tensor, state: DeltaState) -> tuple[Tensor, DeltaState]:
        if x_BTD.shape[1] == 0:
            return x_BTD, state
        qkv, conv = self.conv1d.prefill(self.qkv_proj(x_BTD), state.conv)
        inputs = self._inputs(x_BTD, qkv)
        o_BTHP, memory = delta_rule.delta_after(self.config.backend, *inputs, state.memory, self.config.chunk_size)
        return self._combine(o_BTHP, x_BTD), DeltaState(conv, memory)

    def step(self, x_BD: Tensor, state: DeltaState) -> tuple[Tensor, DeltaState]:
        qkv, conv = self.conv1d.step(self.qkv_proj(x_BD), state.conv)
        o_BHP, memory = delta_rule.delta_step(self.config.backend, *self._inputs(x_BD, qkv), state.memory)
        return self._combine(o_BHP, x_BD), DeltaState(conv, memory)

    def _inputs(self, x: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, v, g and beta of the recurrence, with or without a time axis."""
        config = self.config
        q, k, v = qkv.split([config.key_dim, config.key_dim, config.value_dim], -1)
        q, k, v = (t.unflatten(-1, (config.n_heads, -1)) for t in (q, k, v))
        # Decays in full precision: they are multiplied over the whole past.
        dt = F.softplus(self._decay(x).to(precision(x)) + self.dt_bias).unflatten(-1, (config.n_heads, -1))
        g = -self.A_log.to(dt.dtype).exp().unsqueeze(-1) * dt
        beta = torch.sigmoid(self.b_proj(x).to(dt.dtype)) * (2 if config.negative_eigenvalues else 1)
        return _of_length_1(q) * config.head_k_dim**-0.5, _of_length_1(k), v, g, beta

    def _combine(self, o: Tensor, x: Tensor) -> Tensor:
        """Heads back to the model's width, with or without a time axis."""
        return self.out_proj(rms_norm(o, self.norm).flatten(-2) * self._gate(x))


def _of_length_1(x: Tensor) -> Tensor:
    full = x.to(precision(x))
    return (full * torch.rsqrt(full.square().sum(-1, keepdim=True) + 1e-6)).to(x.dtype)
