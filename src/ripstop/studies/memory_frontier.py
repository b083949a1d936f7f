"""How much recall does a byte of memory buy, held between tokens and read by each, in one mixer and another?

Varies: the mixer, the one number that sizes its memory, and the seed. A model has one layer that remembers; what a mixer lacks
of a short convolution, which all published recall models have, stands in front of it as a layer. All have the same parameters,
by the width of their mlp. Bytes are counted on tensors in rows of as many pairs as are asked.
Refuted would be: a delta rule that needs as many bytes as Mamba-2, or recalls less at an equal state; a state of one size that
gains nothing by being larger; attention that does not recall (then the protocol fails, and nothing is said).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, field_validator

from ripstop.config import ArmName, ConfigError, Size, Strict
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.recall_cost import RecallCostConfig
from ripstop.layers.mlp import MlpConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.equal_parameters import block_parameters, with_parameters_of
from ripstop.models.pattern import used
from ripstop.paper.frontier import LEAST_PAIRS
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig

LETTER = "X"
"""Of the mixer under study, in its pattern."""


class Evaluation(Strict):
    """Recall and bytes."""

    recall_cost: RecallCostConfig = RecallCostConfig()


class Sized(Strict):
    """A mixer and the sizes of its memory: `size` names the setting whose values `sizes` are, rising."""

    mixer: Annotated[MixerConfig, MIXERS]
    size: str
    sizes: list[Size] = Field(min_length=2)
    pattern: str = Field(LETTER, description=f"{LETTER} is the mixer, other letters are keys of `layers`")

    @field_validator("sizes")
    @classmethod
    def _rise(cls, sizes: list[int]) -> list[int]:
        if sizes != sorted(set(sizes)):
            raise ValueError(f"must rise without repeats, and is {sizes}")
        return sizes


class Params(StudyParams):
    """mixers: name -> mixer and sizes. layers: letters that patterns use beside the mixer. mlp: of the model with the most
    parameters; the others' are as wide as makes up for what their mixers have less. Every size of a mixer trains with what its
    middle one chose."""

    data: MqarConfig
    training: TrainingConfig
    d_model: Size
    embedding_std: float = Field(gt=0)
    mlp: MlpConfig
    layers: dict[str, Annotated[MixerConfig, MIXERS]] = {}
    mixers: dict[ArmName, Sized] = Field(min_length=1)
    evaluation: Evaluation = Evaluation()

    def model(self, sized: Sized, size: int) -> DecoderOnlyConfig:
        """Before parameters are made equal."""
        if LETTER in self.layers:
            raise ConfigError(f"layers.{LETTER}: {LETTER} is the letter of the mixer under study; take another one")
        mixers = {**self.layers, LETTER: sized.mixer.replace(**{sized.size: size})}
        return DecoderOnlyConfig(
            d_model=self.d_model,
            pattern=sized.pattern,
            mixers=used(mixers, sized.pattern),
            mlp=self.mlp,
            embedding_std=self.embedding_std,
        )


def arms(params: Params) -> Iterator[Arm]:
    """Every mixer at every size of its memory."""
    if len(params.data.test_pairs) < LEAST_PAIRS:
        raise ConfigError("data.test_pairs: the paper asks for the third most of them; give at least three")
    plain = {(name, size): params.model(sized, size) for name, sized in params.mixers.items() for size in sized.sizes}
    largest = max(plain.values(), key=block_parameters)
    models = {at: with_parameters_of(model, largest) for at, model in plain.items()}
    for name, sized in params.mixers.items():
        for size in sized.sizes:
            yield Arm(
                factors={"mixer": name, "memory_size": size},
                derived={"arm": f"{name}-{size}"},
                model=models[name, size],
                chooses={"mixer": name},
                candidate=models[name, sized.sizes[len(sized.sizes) // 2]],
            )
