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
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ripstop.config import Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.recall import recall_curve
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.base import Model
from ripstop.models.encoder_decoder import AdaptivePositions, EncoderDecoderConfig
from ripstop.models.pattern import used
from ripstop.records import Measurement
from ripstop.runs import Run, Scalar, run_name
from ripstop.studies.mqar_cliff import Evaluation
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.reporting import Reporting


class Positions(Strict):
    """Where the decoder sees its source, and what it gets of it besides."""

    cross_attention: list[int] | Literal["adaptive"]
    source_summary: Literal["none", "mean"] = "none"


class Params(Strict):
    """`positions` names every arm of the comparison."""

    seeds: list[int] = Field(min_length=1)
    data: MqarConfig
    d_model: int = Field(ge=1)
    n_cross_heads: int = Field(ge=1, description="heads of the cross-attention")
    encoder_pattern: str
    decoder_pattern: str
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    adaptive: AdaptivePositions
    positions: dict[str, Positions] = Field(min_length=1)
    steps: list[int] = Field(min_length=1, description="training lengths; each replaces training.steps")
    training: TrainingConfig
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    evaluation: Evaluation = Evaluation()


def runs(params: Params, scale: str) -> Iterator[Run]:
    """Every set of positions at every training length with every seed."""
    for name, positions in params.positions.items():
        for steps, seed in itertools.product(params.steps, params.seeds):
            factors: dict[str, Scalar] = {"positions": name, "steps": steps}
            yield Run(
                study="blind_start",
                scale=scale,
                name=run_name(factors, seed),
                seed=seed,
                factors=factors,
                data=params.data,
                model=EncoderDecoderConfig(
                    d_model=params.d_model,
                    encoder_pattern=params.encoder_pattern,
                    decoder_pattern=params.decoder_pattern,
                    mixers=used(params.mixers, params.encoder_pattern, params.decoder_pattern),
                    n_cross_heads=params.n_cross_heads,
                    cross_attention_positions=positions.cross_attention,
                    adaptive=params.adaptive,
                    source_summary=positions.source_summary,
                ),
                training=params.training.replace(steps=steps),
                compute=params.compute,
                reporting=params.reporting,
                evaluation=params.evaluation.model_dump(),
            )


def evaluate(model: Model, run: Run, data: Path) -> Iterator[Measurement]:
    """Recall by number of pairs, with the run's own source and under the controls."""
    settings = Evaluation.parse(run.evaluation, "evaluation.yaml")
    assert isinstance(run.data, MqarConfig)
    yield from recall_curve(model, run.data, data, settings.controls, settings.batch_size)
