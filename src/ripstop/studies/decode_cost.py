"""What does a decoded token cost, in bytes read, bytes held and time, as the context grows?

Varies: the mixer, at one width and depth, and the models that have a name (`models/presets.py`). Nothing is trained, since no
weight moves a cost. What a step reads is counted on the tensors that its operations are handed; the formula stands beside.
Time is told as a ratio to one reference, which takes turns with every arm in the arm's own process.
Refuted would be: a count that its formula does not give, NSA reading other numbers of tokens than its paper says, a mixer that
reads less and takes no less time, or one that is ahead of full attention at every context.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, field_validator

from ripstop.config import ArmName, ConfigError, Size, Strict, nearest
from ripstop.data.vocabulary import VocabularyConfig
from ripstop.evaluation.base import PartConfig
from ripstop.evaluation.decode_bytes import DecodeBytesConfig
from ripstop.evaluation.decode_time import DecodeTimeConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models import MODELS
from ripstop.models.base import ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import letter_counts, used
from ripstop.models.presets import PRESETS
from ripstop.paper.studies.decode_cost import AT, EIGHTH, TABLE_4
from ripstop.studies.base import Arm, StudyParams

REFERENCE = "mamba2"
"""The arm that the paper calls the reference: times are printed as ratios to its."""


class Evaluation(Strict):
    """Bytes by count, and times that take turns with the reference's."""

    counted: DecodeBytesConfig
    timed: DecodeTimeConfig | None


class Params(StudyParams):
    """`patterns` names each architecture, of which `reference` is one; its letters are the keys of `mixers`.

    models: arm -> the preset that it is, as it stands.
    """

    data: VocabularyConfig
    training: None = None
    d_model: Size
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    models: dict[ArmName, str]
    reference: ArmName
    evaluation: Evaluation

    @field_validator("models")
    @classmethod
    def _have_a_preset(cls, models: dict[str, str]) -> dict[str, str]:
        for preset in models.values():
            if preset not in PRESETS:
                raise ValueError(f"{preset!r} is no preset{nearest(preset, list(PRESETS))}")
        return models

    def model(self, architecture: str) -> DecoderOnlyConfig:
        """The model of a pattern."""
        if architecture not in self.patterns:
            raise ConfigError(f"reference: {architecture!r} is no key of patterns{nearest(architecture, list(self.patterns))}")
        pattern = self.patterns[architecture]
        return DecoderOnlyConfig(d_model=self.d_model, pattern=pattern, mixers=used(self.mixers, pattern))

    def parts(self) -> dict[str, PartConfig]:
        """With the reference as the arm that it names."""
        found = super().parts()
        for name, part in found.items():
            if isinstance(part, DecodeTimeConfig) and part.reference is None:
                found[name] = part.replace(reference=self.model(self.reference), reference_ids=self.data.n_ids)
        return found


def arms(params: Params) -> Iterator[Arm]:
    """Every architecture, then every named model with the vocabulary that its preset is made for."""
    _is_measured(params)
    for architecture, pattern in params.patterns.items():
        layers = sum(letter_counts(pattern).values())
        yield Arm(factors={"architecture": architecture}, derived={"n_layers": layers}, model=params.model(architecture))
    for name, preset in params.models.items():
        model = MODELS.parse({"preset": preset}, f"models.{name}")
        assert isinstance(model, ModelConfig)
        data = VocabularyConfig(n_ids=PRESETS[preset].vocab_size, source=model.reads_source)
        yield Arm(factors={"preset": name}, model=model, data=data)


def _is_measured(params: Params) -> None:
    """`ConfigError` where what is printed would not be measured, or not as it is told: before anything is."""
    counted, timed = params.evaluation.counted, params.evaluation.timed
    _has_contexts("counted", counted.contexts, {*TABLE_4, *AT.values()})
    if timed is not None:
        _has_contexts("timed", timed.contexts, {*AT.values(), EIGHTH})
        reference = params.parts()["timed"]
        assert isinstance(reference, DecodeTimeConfig)
        if reference.reference != params.model(REFERENCE):
            raise ConfigError(f"reference: the paper prints times as ratios to those of {REFERENCE}, and this is another model")
    depths = {name: sum(letter_counts(pattern).values()) for name, pattern in params.patterns.items()}
    if len(set(depths.values())) > 1:
        told = ", ".join(f"{name} {layers}" for name, layers in depths.items())
        raise ConfigError(f"patterns: architectures are compared at one depth, and have layers: {told}; give all as many")


def _has_contexts(part: str, contexts: list[int], printed: set[int]) -> None:
    missing = sorted(printed - set(contexts))
    if missing:
        raise ConfigError(f"evaluation.{part}.contexts: lacks {', '.join(map(str, missing))}, which the paper prints; add them")
