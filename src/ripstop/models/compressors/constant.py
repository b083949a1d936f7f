"""A learnt constant: prompt tuning (arXiv 2104.08691). It reads no document, and so is what a wire has to beat."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from ripstop.models.compressors.base import FAST, Compressor, CompressorConfig, Reading, Reads, WireShape, drawn


class ConstantConfig(CompressorConfig):
    """It has no settings."""

    kind: Literal["constant"] = "constant"
    reads: ClassVar[Reads] = "nothing"

    def build(self, shape: WireShape) -> Constant:
        return Constant(shape)

    def flops(self, shape: WireShape, n_tokens: int) -> int:
        return 0


class Constant(Compressor):
    """The same wire for every document."""

    def __init__(self, shape: WireShape):
        super().__init__()
        self.constant_MZ = drawn(shape.n_vectors, shape.width, std=1 / FAST)

    def forward(self, reading: Reading) -> Tensor:
        return (FAST * self.constant_MZ).expand(len(reading.mask_BS), -1, -1)
