"""Bits per byte of the same weights with the sinks of their windows masked out: whether a trained model leans on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ripstop.config import ConfigError
from ripstop.evaluation.base import Subject
from ripstop.evaluation.bits_per_byte import ScoredText
from ripstop.mixers.sliding_window import SlidingWindowConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class DroppedSinksConfig(ScoredText):
    """Sinks have no parameters, so that nothing is left of them where `sink_size` is 0: a token sees its window alone, as in
    decoding with a ring that keeps no first tokens (arXiv 2309.17453, section 3.1, "window attention")."""

    kind: Literal["dropped_sinks"] = "dropped_sinks"

    def check(self, run: Run) -> None:
        super().check(run)
        sinks_of(run)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model = subject.model({"mixers": without_sinks(sinks_of(subject.run))})
        yield from self.by_position("bits_per_byte_without_sinks", self.sums(subject, model))


def sinks_of(run: Run) -> DecoderOnlyConfig:
    """The run's model; `ConfigError` where no layer of it has sinks."""
    model = run.model
    if isinstance(model, DecoderOnlyConfig) and any(_has_sinks(mixer) for mixer in model.stack.mixers):
        return model
    raise ConfigError("no layer of the model is a sliding_window with sink_size above 0; remove this part")


def without_sinks(model: DecoderOnlyConfig) -> dict[str, object]:
    """Its mixers, none of which has a sink."""
    return {
        letter: mixer.replace(sink_size=0) if isinstance(mixer, SlidingWindowConfig) else mixer
        for letter, mixer in model.mixers.items()
    }


def _has_sinks(mixer: object) -> bool:
    return isinstance(mixer, SlidingWindowConfig) and mixer.sink_size > 0
