"""Multi-head latent attention (MLA): exact recall of the whole past, which is kept as one short vector a token."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import Size
from ripstop.kernels import latent_attention
from ripstop.mixers.base import Mixer, MixerConfig
from ripstop.mixers.heads import write
from ripstop.mixers.rope import Rope
from ripstop.mixers.rope_scaling import ROPE_SCALINGS
from ripstop.mixers.rope_scaling.base import RopeScalingConfig
from ripstop.ops.latent_attention import Up
from ripstop.ops.normalize import rms_norm
from ripstop.ops.segments import Segments, without_padding


class LatentState(NamedTuple):
    """cache: (B, max_len, kv_lora_rank + qk_rope_head_dim), of which `length` positions are filled: the normed latent and
    behind it the rotated key, so that a step reads one buffer where it lies."""

    cache: Tensor
    length: int

    def filled(self) -> LatentState:
        return self._replace(cache=self.cache[:, : self.length])


class MlaConfig(MixerConfig):
    """Names of DeepSeek-V2 (arXiv 2405.04434, section 2.1). kv_lora_rank: width of the latent, r. q_lora_rank: width of the
    queries' own latent, 0 for none. A head's queries and keys have qk_nope_head_dim numbers without a position and
    qk_rope_head_dim rotated ones, of which the keys' are shared by all heads.
    """

    kind: Literal["mla"] = "mla"
    n_heads: Size = 4
    kv_lora_rank: Size = 256
    q_lora_rank: int = Field(0, ge=0, le=2**16)
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: int = Field(64, ge=2, le=2**16, multiple_of=2)
    v_head_dim: Size = 128
    rope_base: float = Field(10000.0, gt=1)
    rope_scaling: Annotated[RopeScalingConfig, ROPE_SCALINGS] | None = None
    backend: Literal["auto", "reference", "torch", "flash_attn"] = "auto"

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def cached_width(self) -> int:
        """Numbers that a token leaves in the state."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def scale(self) -> float:
        """Of the softmax."""
        sharpening = 1.0 if self.rope_scaling is None else self.rope_scaling.sharpening()
        return sharpening * self.qk_head_dim**-0.5

    def build(self, d_model: int) -> Mla:
        return Mla(self, d_model)

    def num_params(self, d_model: int) -> int:
        return self._weights(d_model) + self.kv_lora_rank + self.q_lora_rank

    def state_bytes(self, d_model: int, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        return seq_len * self.cached_width * dtype.itemsize

    def flops_per_token(self, d_model: int, seq_len: int) -> int:
        """Of the expanded form, in which a model trains: each key and value is made once, and all pairs are scored."""
        seen = seq_len * (seq_len + 1) // 2
        return 2 * self._weights(d_model) + 2 * self.n_heads * (self.qk_head_dim + self.v_head_dim) * seen // seq_len

    def _weights(self, d_model: int) -> int:
        """Of the projections."""
        queries, rank = self.n_heads * self.qk_head_dim, self.q_lora_rank
        q = d_model * rank + rank * queries if rank else d_model * queries
        down = d_model * self.cached_width
        up = self.kv_lora_rank * self.n_heads * (self.qk_nope_head_dim + self.v_head_dim)
        return q + down + up + self.n_heads * self.v_head_dim * d_model


class Mla(Mixer):
    """Expanded in `forward` and `prefill`, absorbed in `step`.

    Projections have the shapes and order of transformers' `DeepseekV3Attention`: its weights fit one to one where its RoPE is
    not interleaved.
    """

    def __init__(self, config: MlaConfig, d_model: int):
        super().__init__()
        self.config, self.scale = config, config.scale
        n_heads, rank, queries = config.n_heads, config.q_lora_rank, config.n_heads * config.qk_head_dim
        self.q_a_proj = nn.Linear(d_model, rank, bias=False) if rank else None
        self.q_a_norm = LatentNorm(rank) if rank else None
        self.q_proj = nn.Linear(rank or d_model, queries, bias=False)
        self.kv_a_proj = nn.Linear(d_model, config.cached_width, bias=False)
        self.kv_a_norm = LatentNorm(config.kv_lora_rank)
        self.kv_b_proj = nn.Linear(config.kv_lora_rank, n_heads * (config.qk_nope_head_dim + config.v_head_dim), bias=False)
        self.out_proj = nn.Linear(n_heads * config.v_head_dim, d_model, bias=False)
        self.rope = Rope(config.qk_rope_head_dim, config.rope_base, config.rope_scaling)

    def forward(self, x_BTD: Tensor, segments: Segments | None = None) -> Tensor:
        x_BTD = without_padding(x_BTD, segments)
        position = torch.arange(x_BTD.shape[1], device=x_BTD.device) if segments is None else segments.position_BT
        q_BTHK, new_BTr = self._project(x_BTD, position)
        y_BTHP = latent_attention.expanded(self.config.backend, q_BTHK, new_BTr, self._up(), self.scale, segments)
        return without_padding(self.out_proj(y_BTHP.flatten(2)), segments)

    def init_state(self, batch_size: int, max_len: int) -> LatentState:
        return LatentState(self.kv_a_proj.weight.new_zeros(batch_size, max_len, self.config.cached_width), 0)

    def prefill(self, x_BTD: Tensor, state: LatentState) -> tuple[Tensor, LatentState]:
        if x_BTD.shape[1] == 0:
            return x_BTD, state
        q_BTHK, state = self._read(x_BTD, state)
        y_BTHP = latent_attention.expanded(self.config.backend, q_BTHK, state.filled().cache, self._up(), self.scale)
        return self.out_proj(y_BTHP.flatten(2)), state

    def step(self, x_BD: Tensor, state: LatentState) -> tuple[Tensor, LatentState]:
        q_BTHK, state = self._read(x_BD.unsqueeze(1), state)
        held = state.filled().cache
        y_BHP = latent_attention.absorbed(self.config.backend, q_BTHK.squeeze(1), held, self._up(), self.scale)
        return self.out_proj(y_BHP.flatten(1)), state

    def _project(self, x_BTD: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """q_BTHK, and what the tokens leave in the cache, (B, T, r)."""
        config = self.config
        latent_q = x_BTD if self.q_a_proj is None or self.q_a_norm is None else self.q_a_norm(self.q_a_proj(x_BTD))
        q_BTHK = self.q_proj(latent_q).unflatten(-1, (config.n_heads, config.qk_head_dim))
        q_BTHK, rotary_BTHK = q_BTHK.split([config.qk_nope_head_dim, config.qk_rope_head_dim], -1)
        latent_BTr, key_BTK = self.kv_a_proj(x_BTD).split([config.kv_lora_rank, config.qk_rope_head_dim], -1)
        rotary_BTHK, key_BT1K = self.rope(position, rotary_BTHK, key_BTK.unsqueeze(2))
        return torch.cat([q_BTHK, rotary_BTHK], -1), torch.cat([self.kv_a_norm(latent_BTr), key_BT1K.squeeze(2)], -1)

    def _read(self, x_BTD: Tensor, state: LatentState) -> tuple[Tensor, LatentState]:
        """q_BTHK of new tokens, and the state with them."""
        end = state.length + x_BTD.shape[1]
        if end > state.cache.shape[1]:
            raise ValueError(f"the state has room for {state.cache.shape[1]} tokens, {end} are needed: raise max_len")
        new = slice(state.length, end)
        q_BTHK, new_BTr = self._project(x_BTD, torch.arange(new.start, end, device=x_BTD.device))
        return q_BTHK, LatentState(write(state.cache, new, new_BTr), end)

    def _up(self) -> Up:
        return Up(self.kv_b_proj.weight.unflatten(0, (self.config.n_heads, -1)), self.config.qk_nope_head_dim)


class LatentNorm(nn.Module):
    """`ops.normalize.rms_norm` with its weight, which starts at one, and the authors' eps."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, 1e-6)
