"""How does capacity grow with d_state, and with the total state (heads x head_dim x d_state)?

Varies: d_state at a fixed width, the expansion at a fixed d_state (which moves the total state alone), the length of
training (short training moves the whole curve, so one length would mix capacity with optimisation), and the seed.
Refuted would be: capacity that does not grow with d_state, capacity that jumps to d_state rather than growing smoothly
with the total, equal totals of different shape with different capacity.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from ripstop.config import Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.recall import recall_curve
from ripstop.mixers.mamba2 import Mamba2Config
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import letter_counts
from ripstop.records import Measurement
from ripstop.runs import Run, Scalar, run_name
from ripstop.studies.mqar_cliff import Evaluation
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.reporting import Reporting


class Params(Strict):
    """Each of `shapes` is a (d_state, expand) pair; `mixer` holds the other settings of the Mamba-2 layers."""

    seeds: list[int] = Field(min_length=1)
    data: MqarConfig
    d_model: int = Field(ge=1)
    pattern: str = "M"
    mixer: Mamba2Config
    shapes: list[tuple[int, int]] = Field(min_length=1)
    steps: list[int] = Field(min_length=1, description="training lengths; each replaces training.steps")
    training: TrainingConfig
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    evaluation: Evaluation = Evaluation(controls=["own", "wrong"])


def runs(params: Params, scale: str) -> Iterator[Run]:
    """Every shape at every training length with every seed."""
    for d_state, expand in params.shapes:
        mixer = params.mixer.replace(d_state=d_state, expand=expand)
        for steps, seed in itertools.product(params.steps, params.seeds):
            factors: dict[str, Scalar] = {
                "d_state": d_state,
                "expand": expand,
                "state_elements": letter_counts(params.pattern)["M"] * expand * params.d_model * d_state,
                "steps": steps,
            }
            yield Run(
                study="d_state_scaling",
                scale=scale,
                name=run_name({k: v for k, v in factors.items() if k != "state_elements"}, seed),
                seed=seed,
                factors=factors,
                data=params.data,
                model=DecoderOnlyConfig(d_model=params.d_model, pattern=params.pattern, mixers={"M": mixer}),
                training=params.training.replace(steps=steps),
                compute=params.compute,
                reporting=params.reporting,
                evaluation=params.evaluation.model_dump(),
            )


def evaluate(model: Model, run: Run, data: Path) -> Iterator[Measurement]:
    """Recall by number of pairs, with the run's own pairs and with another example's."""
    settings = Evaluation.parse(run.evaluation, "evaluation.yaml")
    assert isinstance(run.data, MqarConfig)
    yield from recall_curve(model, run.data, data, settings.controls, settings.batch_size)
