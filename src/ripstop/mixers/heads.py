"""What the attention mixers share: their hyperparameters, and from the input to queries, keys and values and back."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import ConfigError, Size
from ripstop.kernels import reads
from ripstop.mixers.base import Mixer, MixerConfig
from ripstop.mixers.short_conv import ShortConv, conv_backend
from ripstop.ops.rotary import rotate
from ripstop.ops.segments import Segments


class HeadsConfig(MixerConfig):
    """Heads, positions and short convolution of an attention mixer."""

    n_heads: Size = 4
    n_kv_heads: Size | None = Field(None, description="heads of keys and values; none given: n_heads")
    head_dim: Size | None = Field(None, description="none given: d_model / n_heads")
    rope: bool = True
    rope_base: float = Field(10000.0, gt=1)
    d_conv: int = Field(0, ge=0, le=2**10, description="width of a short convolution on queries, keys and values; 0: none")

    def sizes(self, d_model: int) -> tuple[int, int, int]:
        """n_heads, n_kv_heads and head_dim at width `d_model`; `ConfigError` where they do not fit together."""
        n_kv_heads = self.n_heads if self.n_kv_heads is None else self.n_kv_heads
        if self.n_heads % n_kv_heads:
            raise ConfigError(f"{self.kind}: n_heads {self.n_heads} must be a multiple of n_kv_heads {n_kv_heads}")
        if self.head_dim is None and d_model % self.n_heads:
            raise ConfigError(f"{self.kind}: d_model {d_model} is no multiple of n_heads {self.n_heads}; set head_dim")
        head_dim = d_model // self.n_heads if self.head_dim is None else self.head_dim
        if self.rope and head_dim % 2:
            raise ConfigError(f"{self.kind}: head_dim {head_dim} must be even for rope; set head_dim or rope: false")
        if self.d_conv == 1:
            raise ConfigError(f"{self.kind}: a d_conv of 1 mixes nothing; set 0 for none, or 2 and more")
        return self.n_heads, n_kv_heads, head_dim

    def qkv_width(self, d_model: int) -> int:
        n_heads, n_kv_heads, head_dim = self.sizes(d_model)
        return (n_heads + 2 * n_kv_heads) * head_dim

    def num_params(self, d_model: int) -> int:
        n_heads, _, head_dim = self.sizes(d_model)
        width = self.qkv_width(d_model)
        return d_model * (width + n_heads * head_dim) + (width * (self.d_conv + 1) if self.d_conv else 0)

    def past_bytes(self, d_model: int, n_keys: int, dtype: torch.dtype) -> int:
        """Bytes of `n_keys` keys and values and of the convolution's past."""
        _, n_kv_heads, head_dim = self.sizes(d_model)
        conv = (self.d_conv - 1) * self.qkv_width(d_model) if self.d_conv else 0
        return (2 * n_keys * n_kv_heads * head_dim + conv) * dtype.itemsize

    def attention_flops(self, d_model: int, seen: int, seq_len: int) -> int:
        """Per token: projections, convolution, and scores and values of `seen` pairs of query and key in `seq_len` tokens."""
        n_heads, _, head_dim = self.sizes(d_model)
        width = self.qkv_width(d_model)
        projections = 2 * d_model * (width + n_heads * head_dim) + 2 * self.d_conv * width
        return projections + 4 * n_heads * head_dim * seen // seq_len


class HeadsMixer(Mixer):
    """Projections of an attention mixer; subclasses attend. Without a convolution its past is empty, (B, 0, C)."""

    def __init__(self, config: HeadsConfig, d_model: int, backend: str):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.sizes(d_model)
        self.rope_base = config.rope_base if config.rope else None
        width = config.qkv_width(d_model)
        self.qkv_proj = nn.Linear(d_model, width, bias=False)
        self.conv1d = ShortConv(width, config.d_conv, silu=False, backend=conv_backend(backend)) if config.d_conv else None
        self.out_proj = nn.Linear(self.n_heads * self.head_dim, d_model, bias=False)

    def project(self, x_BTD: Tensor, segments: Segments | None) -> tuple[Tensor, Tensor, Tensor]:
        """q_BTHK, k_BTGK, v_BTGK of whole documents."""
        qkv = self.qkv_proj(x_BTD)
        if self.conv1d is not None:
            qkv = self.conv1d(qkv, None, segments)
        position = torch.arange(x_BTD.shape[1], device=x_BTD.device) if segments is None else segments.position_BT
        return self._split(qkv, position)

    def project_after(self, x_BTD: Tensor, conv_past: Tensor, length: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """The same of a chunk after `length` tokens, and the convolution's next past."""
        qkv = self.qkv_proj(x_BTD)
        if self.conv1d is not None:
            if x_BTD.shape[1] == 1:
                qkv_BC, conv_past = self.conv1d.step(qkv.squeeze(1), conv_past)
                qkv = qkv_BC.unsqueeze(1)
            else:
                qkv, conv_past = self.conv1d.prefill(qkv, conv_past)
        return self._split(qkv, torch.arange(length, length + x_BTD.shape[1], device=x_BTD.device)), conv_past

    def combine(self, y_BTHK: Tensor) -> Tensor:
        """Heads back to the model's width."""
        return self.out_proj(y_BTHK.flatten(2))

    def empty_past(self, batch_size: int, n_keys: int) -> tuple[Tensor, Tensor, Tensor]:
        """Room for keys and values, and the convolution's past."""
        weight, shape = self.qkv_proj.weight, (batch_size, n_keys, self.n_kv_heads, self.head_dim)
        no_conv = weight.new_zeros(batch_size, 0, weight.shape[0])
        conv = no_conv if self.conv1d is None else self.conv1d.init_past(batch_size)
        return weight.new_zeros(shape), weight.new_zeros(shape), conv

    def _split(self, qkv: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.n_heads, self.n_kv_heads, self.n_kv_heads]
        q, k, v = qkv.unflatten(-1, (-1, self.head_dim)).split(sizes, 2)
        if self.rope_base is not None:
            q, k = rotate(q, position, self.rope_base), rotate(k, position, self.rope_base)
        return q, k, v


def write(buffer_BSGK: Tensor, slots: slice | Tensor, values_BTGK: Tensor) -> Tensor:
    """`values` at `slots` of a preallocated buffer: in place where no gradient is wanted, else in a copy."""
    if torch.is_grad_enabled():
        buffer_BSGK = buffer_BSGK.clone()
    reads.wrote(values_BTGK)
    buffer_BSGK[:, slots] = values_BTGK.to(buffer_BSGK.dtype)
    return buffer_BSGK
