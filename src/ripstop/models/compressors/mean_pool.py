"""Segment means: every vector of the wire is the mean over its own piece of the document (arXiv 2510.20797 pools alike)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ripstop.config import Size
from ripstop.models.compressors.base import (
    Compressor,
    CompressorConfig,
    Reading,
    WireShape,
    segments,
    start_projection,
    unit_rms,
    zero_last,
)


class MeanPoolConfig(CompressorConfig):
    """d_hidden: of the layer that reads the mean hidden state; what it adds starts at zero."""

    kind: Literal["mean_pool"] = "mean_pool"
    d_hidden: Size = 256

    def build(self, shape: WireShape) -> MeanPool:
        return MeanPool(self, shape)

    def flops(self, shape: WireShape, n_tokens: int) -> int:
        assert shape.d_features is not None
        pooled = 2 * 2 * shape.n_vectors * n_tokens * shape.d_features
        layers = shape.d_features * shape.width + self.d_hidden * (shape.d_features + shape.width)
        return pooled + 2 * shape.n_vectors * layers


class MeanPool(Compressor):
    """z_m = project(unit_rms(mean of embeddings)) + mlp(mean of hidden states). An empty piece has means of zero."""

    def __init__(self, config: MeanPoolConfig, shape: WireShape):
        super().__init__()
        assert shape.d_features is not None
        self.n_vectors = shape.n_vectors
        self.project = nn.Linear(shape.d_features, shape.width)
        self.read = zero_last(nn.Linear(shape.d_features, config.d_hidden), nn.GELU(), nn.Linear(config.d_hidden, shape.width))

    def start(self, mean_D: Tensor, directions_DZ: Tensor) -> None:
        start_projection(self.project, mean_D, directions_DZ)

    def forward(self, reading: Reading) -> Tensor:
        tokens_BSD, hidden_BSD = reading.features
        share_BMS = segments(reading.mask_BS, self.n_vectors).to(tokens_BSD.dtype)
        share_BMS = share_BMS / share_BMS.sum(-1, keepdim=True).clamp(min=1)
        return self.project(unit_rms(torch.bmm(share_BMS, tokens_BSD))) + self.read(torch.bmm(share_BMS, hidden_BSD))
