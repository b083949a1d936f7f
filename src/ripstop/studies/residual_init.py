"""Should what a layer adds to the residual stream start smaller in a deeper model?

Varies: the start of the output projections (divided by the root of the number of residual terms, or not), the depth, and
the seed; each arm chooses its learning rate. One number of pairs at a time, as in the other recall studies.
Refuted would be: "depth scaling helps" by arms that recall as well or better without it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, get_args

from pydantic import Field

from ripstop.config import Size, Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.recall import RecallConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.stack import ResidualInit
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig


class Evaluation(Strict):
    """Recall with the run's own pairs, and how it was learnt."""

    recall: RecallConfig = RecallConfig(controls=["own"])
    learning_curve: LearningCurveConfig | None = LearningCurveConfig()


class Params(StudyParams):
    """Every depth is a stack of that many of `mixer`."""

    data: MqarConfig
    training: TrainingConfig
    d_model: Size
    mixer: Annotated[MixerConfig, MIXERS]
    depths: list[Annotated[int, Field(ge=1, le=1000)]] = Field(min_length=1)
    evaluation: Evaluation = Evaluation()


def arms(params: Params) -> Iterator[Arm]:
    """Both starts at every depth."""
    for depth, start in itertools.product(params.depths, get_args(ResidualInit)):
        yield Arm(
            factors={"depth": depth, "start": start},
            model=DecoderOnlyConfig(
                d_model=params.d_model, pattern=f"X{depth}", mixers={"X": params.mixer}, residual_init=start
            ),
        )
