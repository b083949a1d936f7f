"""What can a mixer compute as it reads, beyond what it stores, and does that hold at lengths that it was not trained on?

Varies: the task (word problems of symmetric groups, the smallest of which is parity; selective copying; chains of pointers),
the architecture, and the seed. Every run is trained on short rows and tested on new ones of one, two and four times the longest
of these, with its own row and with another one's. A recurrence whose transition is a positive number, or a matrix with none but
positive eigenvalues, cannot count modulo two; reflections can, and turns; one reflection a token is not every permutation of
five things. Refuted would be: parity at four times the length by attention or by Mamba-2, parity lost by the delta rule whose
beta reaches 2, or a word problem of five things that holds beyond the length of the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ripstop.config import ArmName, ConfigError, Size, Strict, nearest
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.data.synthetic import SyntheticConfig
from ripstop.evaluation.by_length import ByLengthConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import used
from ripstop.paper.studies.state_tracking import printed_times
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig


class Evaluation(Strict):
    """Accuracy by length, with the own row and another one's."""

    by_length: ByLengthConfig = ByLengthConfig(controls=["own", "wrong"])


class Task(Strict):
    """What is drawn, and who learns it.

    data: none given: the study's. layers: how often the pattern of an architecture stands. training: settings to replace in the
    study's.
    """

    data: Annotated[DataConfig, DATA] | None = None
    architectures: list[ArmName] = Field(min_length=1)
    layers: Size = 1
    training: dict[str, Any] = {}


class Params(StudyParams):
    """`patterns` names each architecture; its letters are the keys of `mixers`."""

    training: TrainingConfig
    d_model: Size
    embedding_std: float = Field(0.02, gt=0)
    tasks: dict[ArmName, Task] = Field(min_length=1)
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _tasks_name_patterns(self) -> Self:
        for task, settings in self.tasks.items():
            for name in settings.architectures:
                if name not in self.patterns:
                    where = f"tasks.{task}.architectures"
                    raise ConfigError(f"{where}: no pattern is called {name!r}{nearest(name, list(self.patterns))}")
        return self


def arms(params: Params) -> Iterator[Arm]:
    """Every task with each of its architectures. `ConfigError` where a length that is printed would not be measured."""
    for task, settings in params.tasks.items():
        data = settings.data or params.data
        if isinstance(data, SyntheticConfig):
            for times in printed_times(task):
                if times * data.lengths[-1] not in data.test_lengths:
                    missing = f"{times * data.lengths[-1]:g}, {times:g} times the longest of lengths"
                    raise ConfigError(f"the test_lengths of {task} have no {missing}, which the paper prints; add it")
        for architecture in settings.architectures:
            pattern = f"({params.patterns[architecture]}){settings.layers}"
            model = DecoderOnlyConfig(
                d_model=params.d_model,
                pattern=pattern,
                mixers=used(params.mixers, pattern),
                embedding_std=params.embedding_std,
            )
            yield Arm(factors={"task": task, "architecture": architecture}, model=model, data=data, training=settings.training)
