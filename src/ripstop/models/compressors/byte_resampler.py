"""A document's UTF-8 bytes, encoded by a small model of its own and read by a resampler: it needs no frozen model."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import Size
from ripstop.layers.norms.rms_norm import RMSNormConfig
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.compressors.base import Compressor, CompressorConfig, Reading, Reads, WireShape
from ripstop.models.compressors.resampler import ResamplerConfig
from ripstop.models.stack import StackPlan
from ripstop.ops.segments import Segments

N_BYTES = 256


class ByteResamplerConfig(CompressorConfig):
    """patch: neighbouring bytes that become one position of the encoder. n_layers: of the encoder, attention both ways."""

    kind: Literal["byte_resampler"] = "byte_resampler"
    reads: ClassVar[Reads] = "bytes"
    d_byte: Size = 64
    patch: int = Field(4, ge=1, le=64)
    n_layers: int = Field(2, ge=0, le=256)
    resampler: ResamplerConfig = ResamplerConfig(n_positions=384)

    @property
    def encoder(self) -> StackPlan:
        """The encoder has the resampler's width, heads and mlp."""
        attention = AttentionConfig(n_heads=self.resampler.n_heads, causal=False)
        return StackPlan(self.resampler.d_model, (attention,) * self.n_layers, self.resampler.mlp, RMSNormConfig())

    def build(self, shape: WireShape) -> ByteResampler:
        return ByteResampler(self, shape)

    def flops(self, shape: WireShape, n_tokens: int) -> int:
        n_patches = -(-n_tokens // self.patch)
        patches = 2 * n_patches * self.patch * self.d_byte * self.resampler.d_model
        return patches + self.encoder.flops(n_patches) + self.resampler.flops(shape.n_vectors, shape.width, n_patches)


class ByteResampler(Compressor):
    """Bytes, in patches, through attention both ways, to the resampler. Bytes behind the end of a document are zero vectors."""

    def __init__(self, config: ByteResamplerConfig, shape: WireShape):
        super().__init__()
        self.patch = config.patch
        self.embedding = nn.Embedding(N_BYTES, config.d_byte)
        self.patches = nn.Linear(config.patch * config.d_byte, config.resampler.d_model)
        self.encoder = config.encoder.build()
        self.resampler = config.resampler.build(shape.n_vectors, shape.width)

    def forward(self, reading: Reading) -> Tensor:
        missing = -reading.mask_BS.shape[1] % self.patch
        mask_BS = F.pad(reading.mask_BS, (0, missing))
        x_BSC = self.embedding(F.pad(reading.ids_BS, (0, missing))) * mask_BS.unsqueeze(-1)
        x_BTD = self.patches(x_BSC.unflatten(1, (-1, self.patch)).flatten(2))
        mask_BT = mask_BS.unflatten(1, (-1, self.patch)).any(-1)
        return self.resampler(self.encoder(x_BTD, Segments.of(mask_BT.long())), mask_BT)


def utf8(text: str) -> Tensor:
    """The bytes of a text, int64 (S,)."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()
