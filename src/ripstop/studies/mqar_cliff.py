"""How does recall fall as key-value pairs outgrow the state, per mixer and hybrid?

Varies: the architecture (a pattern of mixers, all of the same depth) and the seed; every run is tested on every number
of pairs, with its own pairs and under the controls. Beside each curve stand the bytes of state the model really holds.
Refuted would be: a step at num_pairs = d_state (the curve falls smoothly, or elsewhere), a hybrid that recalls no
better than its recurrent layers alone, a score that survives another example's pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ripstop.config import ArmName, Size, Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.recall import RecallConfig
from ripstop.evaluation.state_size import StateSizeConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.mixers.mamba2 import Mamba2Config
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import used
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig


class Evaluation(Strict):
    """Recall under every control, how it was learnt, and the state at the longest row."""

    recall: RecallConfig = RecallConfig()
    learning_curve: LearningCurveConfig | None = LearningCurveConfig()
    state_size: StateSizeConfig | None = StateSizeConfig()


class Params(StudyParams):
    """`patterns` names each architecture; its letters are the keys of `mixers`."""

    data: MqarConfig
    training: TrainingConfig
    d_model: Size
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    evaluation: Evaluation = Evaluation()


def arms(params: Params) -> Iterator[Arm]:
    """Every architecture; the state size of its Mamba-2 layers is recorded with it."""
    for architecture, pattern in params.patterns.items():
        mixers = used(params.mixers, pattern)
        d_states = {mixer.d_state for mixer in mixers.values() if isinstance(mixer, Mamba2Config)}
        yield Arm(
            factors={"architecture": architecture},
            derived={"d_state": d_states.pop()} if len(d_states) == 1 else {},
            model=DecoderOnlyConfig(d_model=params.d_model, pattern=pattern, mixers=mixers),
        )
