"""A resampler: learnt queries that read what was encoded, layer by layer (the perceiver resampler of arXiv 2204.14198)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator
from torch import Tensor, nn

from ripstop.config import Size, Strict
from ripstop.layers.cross_attention import CrossAttention, CrossAttentionConfig, remember
from ripstop.layers.mlp import MlpConfig
from ripstop.layers.norms.rms_norm import RMSNorm
from ripstop.models.compressors.base import drawn
from ripstop.ops.segments import Segments


class ResamplerConfig(Strict):
    """n_positions: inputs whose place in the document is known; those behind them are alike."""

    d_model: Size = 256
    n_layers: int = Field(2, ge=1, le=256)
    n_heads: Size = 4
    mlp: MlpConfig = MlpConfig(activation="gelu", expand=2)
    n_positions: Size = 96

    @model_validator(mode="after")
    def _heads_fit(self) -> ResamplerConfig:
        self.cross_attention.sizes(self.d_model)
        return self

    @property
    def cross_attention(self) -> CrossAttentionConfig:
        return CrossAttentionConfig(n_heads=self.n_heads)

    def build(self, n_vectors: int, width: int) -> Resampler:
        return Resampler(self, n_vectors, width)

    def flops(self, n_vectors: int, width: int, n_inputs: int) -> int:
        reads = self.cross_attention.flops(self.d_model, n_vectors, n_inputs)
        layer = reads + n_vectors * self.mlp.flops_per_token(self.d_model)
        return self.n_layers * layer + 2 * n_vectors * self.d_model * width


class Resampler(nn.Module):
    """(B, S, d_model) to (B, M, width): queries, to which each layer adds what it reads, and an mlp; pre-norm."""

    def __init__(self, config: ResamplerConfig, n_vectors: int, width: int):
        super().__init__()
        d_model = config.d_model
        self.position_SD = drawn(config.n_positions, d_model, std=0.3)
        self.query_MD = drawn(n_vectors, d_model, std=1.0)
        self.memory_norm = RMSNorm(d_model)
        layers = range(config.n_layers)
        self.read_norms = nn.ModuleList(RMSNorm(d_model) for _ in layers)
        self.reads: Sequence[CrossAttention] = nn.ModuleList(  # type: ignore[assignment]
            config.cross_attention.build(d_model) for _ in layers
        )
        self.mlp_norms = nn.ModuleList(RMSNorm(d_model) for _ in layers)
        self.mlps = nn.ModuleList(config.mlp.build(d_model) for _ in layers)
        self.out_norm = RMSNorm(d_model)
        self.out = nn.Linear(d_model, width, bias=False)
        nn.init.normal_(self.out.weight, std=d_model**-0.5)

    def forward(self, x_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        n_inputs, n_positions = x_BSD.shape[1], len(self.position_SD)
        place_SD = nn.functional.pad(self.position_SD[:n_inputs], (0, 0, 0, max(0, n_inputs - n_positions)))
        memory = remember(self.memory_norm(x_BSD + place_SD), Segments.of(mask_BS.long()))
        y_BMD = self.query_MD.expand(len(x_BSD), -1, -1)
        for read_norm, read, mlp_norm, mlp in zip(self.read_norms, self.reads, self.mlp_norms, self.mlps, strict=True):
            y_BMD = y_BMD + read(read_norm(y_BMD), read.init_state(memory), memory.seen)
            y_BMD = y_BMD + mlp(mlp_norm(y_BMD))
        return self.out(self.out_norm(y_BMD))
