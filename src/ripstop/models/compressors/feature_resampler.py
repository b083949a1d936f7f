"""Features of a frozen model, its token embeddings and hidden states, read by a resampler."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ripstop.models.compressors.base import Compressor, CompressorConfig, Reading, WireShape
from ripstop.models.compressors.resampler import ResamplerConfig


class FeatureResamplerConfig(CompressorConfig):
    """Both are brought to the resampler's width by linear maps and added."""

    kind: Literal["feature_resampler"] = "feature_resampler"
    resampler: ResamplerConfig = ResamplerConfig()

    def build(self, shape: WireShape) -> FeatureResampler:
        return FeatureResampler(self, shape)

    def flops(self, shape: WireShape, n_tokens: int) -> int:
        assert shape.d_features is not None
        into = 2 * 2 * n_tokens * shape.d_features * self.resampler.d_model
        return into + self.resampler.flops(shape.n_vectors, shape.width, n_tokens)


class FeatureResampler(Compressor):
    """z = resampler(W E + V H)."""

    def __init__(self, config: FeatureResamplerConfig, shape: WireShape):
        super().__init__()
        assert shape.d_features is not None
        self.tokens = nn.Linear(shape.d_features, config.resampler.d_model, bias=False)
        self.hidden = nn.Linear(shape.d_features, config.resampler.d_model)
        self.resampler = config.resampler.build(shape.n_vectors, shape.width)

    def forward(self, reading: Reading) -> Tensor:
        tokens_BSD, hidden_BSD = reading.features
        return self.resampler(self.tokens(tokens_BSD) + self.hidden(hidden_BSD), reading.mask_BS)
