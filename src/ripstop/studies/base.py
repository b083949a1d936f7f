"""What all studies share: the block of parameters, and from arms and seeds to runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, field_validator

from ripstop.config import ConfigError, Strict, explain
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.evaluation.base import PartConfig
from ripstop.models.base import ModelConfig
from ripstop.runs import Resources, Run, Scalar, run_name
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.reporting import Reporting


class StudyParams(Strict):
    """The block of a study in params.yaml. A study adds what it varies, and says more closely what it takes."""

    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1)
    data: Annotated[DataConfig, DATA]
    training: TrainingConfig | None
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    resources: Resources = Resources()
    if TYPE_CHECKING:
        evaluation: Any
        """A mapping of parts, or a model whose fields are parts; a study says which."""

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{seeds} names a seed twice; name each once")
        return seeds

    def parts(self) -> dict[str, PartConfig]:
        """part -> its settings, of those that are asked for: a part that is null is not."""
        if isinstance(self.evaluation, Mapping):
            return dict(self.evaluation)
        named: dict[str, PartConfig | None] = {
            name: getattr(self.evaluation, name) for name in type(self.evaluation).model_fields
        }
        return {name: part for name, part in named.items() if part is not None}


@dataclass(frozen=True)
class Arm:
    """What is trained and measured with every seed.

    factors: what distinguishes it from the study's other arms, in every record.
    derived: further factors that follow from these; they are recorded and do not enter the name.
    training: settings to replace in the study's training.
    """

    factors: dict[str, Scalar]
    model: ModelConfig
    derived: dict[str, Scalar] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    data: DataConfig | None = None


def runs(study: ModuleType, values: Mapping[str, Any], scale: str, where: str) -> Iterator[Run]:
    """Every arm of the study with every seed. values: its block of params.yaml, as resolved for `scale`."""
    name = study.__name__.rpartition(".")[2]
    params: StudyParams = study.Params.parse(values, where)
    try:
        for arm in study.arms(params):
            yield from _runs_of(arm, name, params, scale)
    except ValidationError as error:  # values that are fine alone and do not fit together
        raise explain(error, where) from None
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where}: {error}") from None


def _runs_of(arm: Arm, study: str, params: StudyParams, scale: str) -> Iterator[Run]:
    training = params.training.replace(**arm.training) if params.training is not None else None
    for seed in params.seeds:
        run = Run(
            study=study,
            scale=scale,
            name=run_name(arm.factors, seed),
            seed=seed,
            factors=arm.factors | arm.derived,
            data=arm.data or params.data,
            model=arm.model,
            training=training,
            compute=params.compute,
            reporting=params.reporting,
            evaluation=params.parts(),
            resources=params.resources,
        )
        run.check()
        yield run
