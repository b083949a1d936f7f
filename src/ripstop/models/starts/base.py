"""What every start offers: it replaces some weights of a freshly drawn encoder-decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripstop.batch import DataInfo
from ripstop.config import Strict

if TYPE_CHECKING:
    from ripstop.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig


class StartConfig(Strict):
    """A start. Subclasses add `kind: Literal[...]` and implement `apply`."""

    kind: str

    def check(self, model: EncoderDecoderConfig) -> None:
        """`ConfigError` where a model of this configuration cannot start so."""

    def apply(self, model: EncoderDecoder, data: DataInfo) -> None:
        """Replace weights of `model`, under `torch.no_grad`; random ones are drawn from torch's own generator."""
        raise NotImplementedError(f"{type(self).__name__}: a start has to define apply(self, model, data)")
