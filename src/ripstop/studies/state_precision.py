"""How few bits does a state need that is stored between tokens, and does that depend on how it is written?

Varies: the mixer, and the seed of its training; in the evaluation the number format of the stored state, how it is rounded,
and how long the row is, to several times the longest row of training. Every number is against the same weights with the state
in float32, so that arms need not recall alike. Keys, values and latents are rounded once, when they are written; a recurrent
state is rounded again at every token. Refuted would be: that this difference costs bits; that whole numbers of 8 bits, or
error feedback at 4, keep a recurrent state; that stochastic rounding does. A model that does not recall in float32 has nothing
to lose, and is asked nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from ripstop.config import ArmName, ConfigError, Size, Strict, nearest
from ripstop.data.mqar_gap import MqarGapConfig
from ripstop.data.text import TextConfig
from ripstop.evaluation.stored_decoding import StoredPart
from ripstop.evaluation.stored_recall import StoredRecallConfig
from ripstop.evaluation.stored_text import StoredTextConfig
from ripstop.layers.mlp import MlpConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import used
from ripstop.paper.precision import LADDER
from ripstop.records import Scalar
from ripstop.studies.base import Arm, ChoiceParams, StudyParams
from ripstop.training.config import TrainingConfig


class Evaluation(Strict):
    """recall: of the arms on MQAR. text: of the language models."""

    recall: StoredRecallConfig = StoredRecallConfig()
    text: StoredTextConfig = StoredTextConfig()


class Text(Strict):
    """Some of the architectures as language models of bytes, with an mlp and trainings of their own."""

    architectures: list[ArmName] = Field(min_length=1)
    data: TextConfig
    mlp: MlpConfig | None = None
    training: TrainingConfig


class Params(StudyParams):
    """`patterns` names each architecture; its letters are the keys of `mixers`. recall_choice: a `choice` of the arms on
    MQAR. recall_steps: of architectures that need more than `training.steps` to recall in float32."""

    data: MqarGapConfig
    training: TrainingConfig
    choice: None = None
    recall_choice: ChoiceParams | None = None
    recall_steps: dict[ArmName, Size] = {}
    d_model: Size
    embedding_std: float = Field(0.02, gt=0)
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    text: Text
    evaluation: Evaluation = Evaluation()


def arms(params: Params) -> Iterator[Arm]:
    """Every architecture on MQAR, then as a language model."""
    _is_measured("evaluation.recall", params.evaluation.recall)
    _are_architectures("recall_steps", params.recall_steps, params)
    for architecture, pattern in params.patterns.items():
        factors: dict[str, Scalar] = {"task": "recall", "architecture": architecture}
        steps = {"steps": params.recall_steps.get(architecture, params.training.steps)}
        yield Arm(factors, _model(params, pattern), training=steps, choice=params.recall_choice, parts=("recall",))
    _is_measured("evaluation.text", params.evaluation.text)
    changes = params.text.training.model_dump(exclude_unset=True)
    _are_architectures("text.architectures", params.text.architectures, params)
    for architecture in params.text.architectures:
        model = _model(params, params.patterns[architecture]).replace(mlp=params.text.mlp)
        factors = {"task": "text", "architecture": architecture}
        yield Arm(factors, model, training=changes, data=params.text.data, parts=("text",))


def _model(params: Params, pattern: str) -> DecoderOnlyConfig:
    mixers = used(params.mixers, pattern)
    return DecoderOnlyConfig(d_model=params.d_model, pattern=pattern, mixers=mixers, embedding_std=params.embedding_std)


def _are_architectures(where: str, names: Iterable[str], params: Params) -> None:
    for name in names:
        if name not in params.patterns:
            raise ConfigError(f"{where}: no pattern is called {name!r}{nearest(name, list(params.patterns))}")


def _is_measured(where: str, part: StoredPart) -> None:
    """`ConfigError` where what is printed would not be measured: before anything trains."""
    for rounding, names in LADDER.items():
        for name in names:
            if name not in getattr(part, rounding):
                raise ConfigError(f"{where}.{rounding}: {name} is not among them, and the paper prints it; add it")
