"""Tables of tokens start from vectors that the data brings: a source token near its translations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from pydantic import Field
from torch import Tensor

from ripstop.batch import DataInfo
from ripstop.config import ConfigError
from ripstop.models.starts.base import StartConfig

if TYPE_CHECKING:
    from ripstop.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig


@runtime_checkable
class HasTokenVectors(Protocol):
    """Data that knows vectors of its tokens."""

    def token_vectors(self, width: int) -> tuple[Tensor, Tensor]:
        """(V, D) of the source's tokens and of the target's, with a mean square of 1."""


class TokenVectorsConfig(StartConfig):
    """Both embeddings and the head are the data's vectors, scaled to these standard deviations."""

    kind: Literal["token_vectors"] = "token_vectors"
    embedding_std: float = Field(0.3, gt=0)
    head_std: float = Field(0.12, gt=0, description="smaller, so that the first logits are nearly equal")

    def check(self, model: EncoderDecoderConfig) -> None:
        if model.share_embeddings or model.tie_embeddings:
            raise ConfigError(
                "start: token_vectors differ between source, target and head; set share_embeddings and tie_embeddings to false"
            )

    def apply(self, model: EncoderDecoder, data: DataInfo) -> None:
        if not isinstance(data, HasTokenVectors):
            raise ConfigError("start: token_vectors needs data that has them, such as kind: documents; leave it out")
        source_VD, target_VD = data.token_vectors(model.embedding.embedding_dim)
        model.source_embedding.weight.copy_(self.embedding_std * source_VD)
        model.embedding.weight.copy_(self.embedding_std * target_VD)
        model.readout.head.weight.copy_(self.head_std * target_VD)
