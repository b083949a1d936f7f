"""Does a decoder need cross-attention at layer 0, or just anywhere? (sequence-to-sequence MQAR)

Varies: the decoder layers that see the source (each single one, pairs, all, the adaptive rule, none), two baselines
without cross-attention (nothing of the source; its mean added to every input), the length of training (a position may
be learnt later without being worse), and the seed.
Refuted would be: "layer 0 is critical" by any other single position that recalls as well; "cross-attention is needed" by
a baseline without it that does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ripstop.config import ArmName, Size, Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.recall import RecallConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.encoder_decoder import AdaptivePositions, EncoderDecoderConfig
from ripstop.models.pattern import used
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig


class Positions(Strict):
    """Where the decoder sees its source, and what it gets of it besides."""

    cross_attention: list[int] | Literal["adaptive"]
    source_summary: Literal["none", "mean"] = "none"


class Evaluation(Strict):
    """Recall under every control, and how it was learnt."""

    recall: RecallConfig = RecallConfig()
    learning_curve: LearningCurveConfig | None = LearningCurveConfig()


class Params(StudyParams):
    """`positions` names every arm of the comparison."""

    data: MqarConfig
    training: TrainingConfig
    d_model: Size
    n_cross_heads: Size = Field(description="heads of the cross-attention")
    encoder_pattern: str
    decoder_pattern: str
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    adaptive: AdaptivePositions
    positions: dict[ArmName, Positions] = Field(min_length=1)
    steps: list[int] = Field(min_length=1, description="training lengths; each replaces training.steps")
    evaluation: Evaluation = Evaluation()


def arms(params: Params) -> Iterator[Arm]:
    """Every set of positions at every training length."""
    for (name, positions), steps in itertools.product(params.positions.items(), params.steps):
        model = EncoderDecoderConfig(
            d_model=params.d_model,
            encoder_pattern=params.encoder_pattern,
            decoder_pattern=params.decoder_pattern,
            mixers=used(params.mixers, params.encoder_pattern, params.decoder_pattern),
            n_cross_heads=params.n_cross_heads,
            cross_attention_positions=positions.cross_attention,
            adaptive=params.adaptive,
            source_summary=positions.source_summary,
        )
        yield Arm(
            factors={"positions": name, "steps": steps},
            derived={"cross_layers": len(model.cross_attention_layers)},
            model=model,
            training={"steps": steps},
            chooses={"positions": name},
        )
