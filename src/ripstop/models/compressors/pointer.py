"""Attention over the tokens of a document whose values are the tokens' own embeddings: every vector points at words.

A frozen model reads its embeddings best, so what arrives should be close to one. Scores come from the hidden states, in which
a model has already worked out what a token stands for there. To the mean of the embeddings that are pointed at, a small layer
adds what their hidden states know.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import Size
from ripstop.models.compressors.base import (
    FAST,
    Compressor,
    CompressorConfig,
    Reading,
    WireShape,
    drawn,
    segments,
    start_projection,
    unit_rms,
    zero_last,
)

OUTSIDE = 3.0
"""What a score has less outside its own piece of the document, at the start."""
AHEAD = 6.0
"""What the score of vector m has more at token m, where the start is a truncated document."""


class PointerConfig(CompressorConfig):
    """start: where the vectors point before they are trained: each into its own piece of the document, at one of the first M
    tokens, or anywhere.

    sharpness: what products of query and key are multiplied with. n_positions: tokens whose place in the document has a score
    of its own; behind them there is none.
    """

    kind: Literal["pointer"] = "pointer"
    start: Literal["segments", "truncation", "none"] = "segments"
    d_key: Size = 128
    d_hidden: Size = Field(128, description="of the layer that reads the hidden states")
    sharpness: float = Field(4.0, gt=0)
    n_positions: Size = 96

    def build(self, shape: WireShape) -> Pointer:
        return Pointer(self, shape)

    def flops(self, shape: WireShape, n_tokens: int) -> int:
        assert shape.d_features is not None
        d_features, n_vectors = shape.d_features, shape.n_vectors
        keys = n_tokens * d_features * self.d_key
        hidden = n_tokens * self.d_hidden * d_features
        attention = n_vectors * n_tokens * (self.d_key + d_features + self.d_hidden)
        return 2 * (keys + hidden + attention + n_vectors * shape.width * (d_features + self.d_hidden))


class Pointer(Compressor):
    """z_m = project(unit_rms(p_m E)) + p_m mlp(H) with p_m = softmax(q_m . key(H) + position_m + piece_m).

    After a forward pass outside of training `weights_BMS` holds p.
    """

    def __init__(self, config: PointerConfig, shape: WireShape):
        super().__init__()
        assert shape.d_features is not None
        self.in_pieces = config.start == "segments"
        self.scale = config.sharpness * config.d_key**-0.5
        self.query_MK = drawn(shape.n_vectors, config.d_key, std=0.5)
        self.key = nn.Linear(shape.d_features, config.d_key)
        nn.init.normal_(self.key.weight, std=0.02)
        self.position_MS = nn.Parameter(torch.zeros(shape.n_vectors, config.n_positions))
        if config.start == "truncation":
            with torch.no_grad():
                self.position_MS.fill_diagonal_(AHEAD / FAST)
        self.project = nn.Linear(shape.d_features, shape.width)
        self.hidden = nn.Sequential(nn.Linear(shape.d_features, config.d_hidden), nn.GELU())
        self.read = zero_last(nn.Linear(config.d_hidden, shape.width))
        self.weights_BMS: Tensor | None = None

    def start(self, mean_D: Tensor, directions_DZ: Tensor) -> None:
        start_projection(self.project, mean_D, directions_DZ)

    def forward(self, reading: Reading) -> Tensor:
        tokens_BSD, hidden_BSD = reading.features
        n_tokens, n_positions = reading.mask_BS.shape[1], self.position_MS.shape[1]
        score_BMS = self.scale * (self.query_MK @ self.key(hidden_BSD).mT)
        position_MS = FAST * self.position_MS[:, :n_tokens]
        score_BMS = score_BMS + nn.functional.pad(position_MS, (0, max(0, n_tokens - n_positions)))
        if self.in_pieces:
            score_BMS = score_BMS - OUTSIDE * ~segments(reading.mask_BS, len(self.query_MK))
        weights_BMS = score_BMS.masked_fill(~reading.mask_BS.unsqueeze(1), -torch.inf).softmax(-1)
        if not self.training:
            self.weights_BMS = weights_BMS.detach()
        pointed_BMD, known_BMD = weights_BMS @ tokens_BSD, weights_BMS @ self.hidden(hidden_BSD)
        return self.project(unit_rms(pointed_BMD)) + self.read(known_BMD)
