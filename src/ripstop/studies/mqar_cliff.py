"""How does recall fall as key-value pairs outgrow the state, per mixer and hybrid?

Varies: the architecture (a pattern of mixers, all of the same depth) and the seed; every run is tested on every number
of pairs, with its own pairs and under the controls. Beside each curve stand the bytes of state the model really holds.
Refuted would be: a step at num_pairs = d_state (the curve falls smoothly, or elsewhere), a hybrid that recalls no
better than its recurrent layers alone, a score that survives another example's pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ripstop.config import Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.efficiency import state_size
from ripstop.evaluation.recall import recall_curve
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.mixers.mamba2 import Mamba2Config
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import used
from ripstop.records import Measurement
from ripstop.runs import Run, Scalar, run_name
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.reporting import Reporting


class Evaluation(Strict):
    """Which controls are scored, in batches of how many examples."""

    controls: list[str] = ["own", "zero", "shuffled", "wrong"]
    batch_size: int = Field(64, ge=2)


class Params(Strict):
    """`patterns` names each architecture; its letters are the keys of `mixers`."""

    seeds: list[int] = Field(min_length=1)
    data: MqarConfig
    d_model: int = Field(ge=1)
    patterns: dict[str, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    training: TrainingConfig
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    evaluation: Evaluation = Evaluation()


def runs(params: Params, scale: str) -> Iterator[Run]:
    """Every architecture with every seed."""
    for architecture, pattern in params.patterns.items():
        for seed in params.seeds:
            factors: dict[str, Scalar] = {"architecture": architecture}
            yield Run(
                study="mqar_cliff",
                scale=scale,
                name=run_name(factors, seed),
                seed=seed,
                factors=factors,
                data=params.data,
                model=DecoderOnlyConfig(d_model=params.d_model, pattern=pattern, mixers=used(params.mixers, pattern)),
                training=params.training,
                compute=params.compute,
                reporting=params.reporting,
                evaluation=params.evaluation.model_dump(),
            )


def evaluate(model: Model, run: Run, data: Path) -> Iterator[Measurement]:
    """Recall by number of pairs and control, and the size of the state at the longest row."""
    settings = Evaluation.parse(run.evaluation, "evaluation.yaml")
    assert isinstance(run.data, MqarConfig) and isinstance(run.model, DecoderOnlyConfig)
    yield from recall_curve(model, run.data, data, settings.controls, settings.batch_size)
    for mixer in run.model.mixers.values():
        if isinstance(mixer, Mamba2Config):
            yield Measurement("d_state", mixer.d_state, "elements", 1)
    yield from state_size(model, run.model, run.data.row_length(max(run.data.test_pairs)))
