"""An encoder-decoder whose training starts from more than torch's draws: the model of the translation study."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import model_validator

from ripstop.batch import DataInfo
from ripstop.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ripstop.models.starts import STARTS
from ripstop.models.starts.base import StartConfig


class TranslatorConfig(EncoderDecoderConfig):
    """start: what replaces drawn weights, one after the other; none: everything is as `encoder_decoder` draws it.

    Everything else of the model is drawn first, from the run's seed, so that two starts differ in what they replace alone.
    """

    kind: Literal["translator"] = "translator"  # type: ignore[assignment]
    start: list[Annotated[StartConfig, STARTS]] = []

    @model_validator(mode="after")
    def _can_start(self) -> TranslatorConfig:
        for start in self.start:
            start.check(self)
        return self

    def build(self, data: DataInfo) -> EncoderDecoder:
        model = super().build(data)
        with torch.no_grad():
            for start in self.start:
                start.apply(model, data)
        return model
