"""How does capacity grow with d_state, and with the total state (heads x head_dim x d_state)?

Varies: d_state at a fixed width, the expansion at a fixed d_state (which moves the total state alone), the length of
training (short training moves the whole curve, so one length would mix capacity with optimisation), and the seed.
Refuted would be: capacity that does not grow with d_state, capacity that jumps to d_state rather than growing smoothly
with the total, equal totals of different shape with different capacity.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydantic import Field

from ripstop.config import Size, Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.recall import RecallConfig
from ripstop.mixers.mamba2 import Mamba2Config
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import letter_counts
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig


class Evaluation(Strict):
    """Recall with the run's own pairs and with another example's, and how it was learnt."""

    recall: RecallConfig = RecallConfig(controls=["own", "wrong"])
    learning_curve: LearningCurveConfig | None = LearningCurveConfig()


class Params(StudyParams):
    """Each of `shapes` is a (d_state, expand) pair; `mixer` holds the other settings of the Mamba-2 layers."""

    data: MqarConfig
    training: TrainingConfig
    d_model: Size
    pattern: str = "M"
    mixer: Mamba2Config
    shapes: list[tuple[Size, Size]] = Field(min_length=1)
    steps: list[int] = Field(min_length=1, description="training lengths; each replaces training.steps")
    evaluation: Evaluation = Evaluation()


def arms(params: Params) -> Iterator[Arm]:
    """Every shape of the state at every training length."""
    for (d_state, expand), steps in itertools.product(params.shapes, params.steps):
        mixer = params.mixer.replace(d_state=d_state, expand=expand)
        yield Arm(
            factors={"d_state": d_state, "expand": expand, "steps": steps},
            derived={
                "state_elements": letter_counts(params.pattern)["M"] * expand * params.d_model * d_state,
                "shape": f"{d_state}x{expand}",
            },
            model=DecoderOnlyConfig(d_model=params.d_model, pattern=params.pattern, mixers={"M": mixer}),
            training={"steps": steps},
            chooses={"d_state": d_state, "expand": expand},
        )
