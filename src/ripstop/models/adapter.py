"""Adapters: from the vectors of a wire, which several frozen models share, to what one of them reads."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.config import Size, Strict
from ripstop.frozen.base import Sizes
from ripstop.frozen.cache import KeyValues, Past
from ripstop.models.compressors.base import FAST, n_parameters, unit_rms, zero_last

Output = Literal["embeddings", "key_values"]
Calibration = Literal["vector", "example", "none"]


class AdapterConfig(Strict):
    """What a frozen model reads, and how it is made of the wire.

    output: embeddings, in place of those of tokens, or the keys and values of every layer, which are read in the same place.
    d_hidden: of a layer beside the linear map, whose output starts at zero; none given: the map alone.
    calibrate: which embeddings are brought to the RMS of the model's own, before a learnt gain: each vector, all vectors of an
    example together, or none. Keys and values start with the means and deviations of the model's own instead.
    """

    output: Output = "embeddings"
    d_hidden: Size | None = Field(None, description="none given: a linear map alone")
    calibrate: Calibration = "vector"

    def build(self, n_vectors: int, d_z: int, sizes: Sizes) -> EmbeddingAdapter | KeyValueAdapter:
        if self.output == "embeddings":
            return EmbeddingAdapter(self, n_vectors, d_z, sizes)
        return KeyValueAdapter(self, n_vectors, d_z, sizes)

    def numbers(self, sizes: Sizes) -> int:
        """That the model reads of one vector."""
        return sizes.width if self.output == "embeddings" else 2 * sizes.n_layers * sizes.n_kv_heads * sizes.head_dim

    def num_params(self, n_vectors: int, d_z: int, sizes: Sizes) -> int:
        return n_parameters(lambda: self.build(n_vectors, d_z, sizes))

    def flops(self, d_z: int, sizes: Sizes) -> int:
        """Forward, of one vector."""
        return 2 * (d_z * self.numbers(sizes) + (self.d_hidden or 0) * (d_z + self.numbers(sizes)))


class _Adapter(nn.Module):
    """y_m = W z_m + mlp(z_m) + bias_m. W starts so that W z is as large as z; the mlp's output starts at zero."""

    def __init__(self, config: AdapterConfig, n_vectors: int, d_z: int, sizes: Sizes):
        super().__init__()
        n, hidden = config.numbers(sizes), config.d_hidden
        self.linear = nn.Linear(d_z, n, bias=False)
        nn.init.normal_(self.linear.weight, std=d_z**-0.5)
        self.mlp = None if hidden is None else zero_last(nn.Linear(d_z, hidden), nn.GELU(), nn.Linear(hidden, n))
        self.bias_MN = nn.Parameter(torch.zeros(n_vectors, n))

    def mapped(self, z_BMZ: Tensor) -> Tensor:
        y_BMN = self.linear(z_BMZ) + FAST * self.bias_MN
        return y_BMN if self.mlp is None else y_BMN + self.mlp(z_BMZ)


class EmbeddingAdapter(_Adapter):
    """x_m = calibrated(y_m) exp(gain_m) RMS, with the RMS of the model's table of embeddings."""

    def __init__(self, config: AdapterConfig, n_vectors: int, d_z: int, sizes: Sizes):
        super().__init__(config, n_vectors, d_z, sizes)
        self.calibrate = config.calibrate
        self.gain_M1 = nn.Parameter(torch.zeros(n_vectors, 1))

    def start(self, map_ZD: Tensor | None, mean_D: Tensor) -> None:
        """Under `torch.no_grad`: y = map^T z + mean. None: of another map only the mean is known."""
        if map_ZD is not None:
            self.linear.weight.copy_(map_ZD.T)
        self.bias_MN.copy_(mean_D.expand_as(self.bias_MN) / FAST)

    def forward(self, z_BMZ: Tensor, rms: float) -> Tensor:
        """(B, M, D)."""
        x_BMD = self.mapped(z_BMZ)
        if self.calibrate == "vector":
            x_BMD = unit_rms(x_BMD)
        elif self.calibrate == "example":
            x_BMD = unit_rms(x_BMD.flatten(1)).view_as(x_BMD)
        return x_BMD * (FAST * self.gain_M1).exp() * rms


class KeyValueAdapter(_Adapter):
    """Keys and values of every layer: the model's own mean of each number, and y_m times its deviation."""

    mean_N: Tensor
    deviation_N: Tensor

    def __init__(self, config: AdapterConfig, n_vectors: int, d_z: int, sizes: Sizes):
        super().__init__(config, n_vectors, d_z, sizes)
        self.shape = (2, sizes.n_layers, sizes.n_kv_heads, sizes.head_dim)
        # derived from the frozen model, so not saved
        self.register_buffer("mean_N", torch.zeros(config.numbers(sizes)), persistent=False)
        self.register_buffer("deviation_N", torch.ones(config.numbers(sizes)), persistent=False)

    def start(self, past: Past) -> None:
        """Under `torch.no_grad`: the means and deviations are those of these keys and values (of one row), over its tokens."""
        both = torch.stack([torch.stack(layers)[:, 0] for layers in (past.keys, past.values)]).float()  # (2, L, G, S, K)
        self.mean_N.copy_(both.mean(3).flatten())
        self.deviation_N.copy_(both.std(3, correction=0).flatten())

    def forward(self, z_BMZ: Tensor) -> list[KeyValues]:
        """Of each of B documents, (G, M, K) each."""
        y_BMN = self.mean_N + self.deviation_N * self.mapped(z_BMZ)
        both = y_BMN.unflatten(-1, self.shape).permute(0, 2, 3, 4, 1, 5)  # (B, 2, L, G, M, K)
        return [KeyValues(tuple(keys), tuple(values)) for keys, values in both]
