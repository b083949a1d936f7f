"""Cross-attention starts as a lookup: what resembles the query is found, and handed on as it is.

Query and key are one rotation of their inputs, so that equal vectors match; value and output are another rotation and its
inverse, so that what was found arrives unturned. From torch's draws it takes thousands of updates until a position of the
source stands out. The projections are as large as they are here, not divided by the number of terms in the residual stream:
what is found is meant to be heard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from ripstop.batch import DataInfo
from ripstop.config import ConfigError
from ripstop.models.starts.base import StartConfig

if TYPE_CHECKING:
    from ripstop.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig


class LookupConfig(StartConfig):
    """gain: of value and of output; their product is what of the found vector is added to the residual stream."""

    kind: Literal["lookup"] = "lookup"
    gain: float = Field(0.7, gt=0)

    def check(self, model: EncoderDecoderConfig) -> None:
        if model.n_cross_kv_heads not in (None, model.n_cross_heads):
            raise ConfigError("start: lookup needs as many heads of keys and values as of queries; leave n_cross_kv_heads out")

    def apply(self, model: EncoderDecoder, data: DataInfo) -> None:
        for block in model.decoder.blocks:
            cross = block.cross_attention
            if cross is not None:
                match_DD, carry_DD = _rotation(cross.q_proj.weight), _rotation(cross.q_proj.weight)
                cross.q_proj.weight.copy_(match_DD)
                cross.kv_proj.weight.copy_(torch.cat([match_DD, self.gain * carry_DD]))
                cross.out_proj.weight.copy_(self.gain * carry_DD.T)


def _rotation(like_DD: Tensor) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn_like(like_DD))[0]
