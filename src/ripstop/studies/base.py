"""What all studies share: the block of parameters, and from arms and seeds to runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from ripstop import choices
from ripstop.config import ConfigError, Strict, explain, nearest, shown
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.evaluation.base import PartConfig
from ripstop.models.base import ModelConfig
from ripstop.records import Scalar
from ripstop.runs import Resources, Run, run_name
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.distributed.config import Parallel
from ripstop.training.reporting import Reporting


class ChoiceParams(Strict):
    """What every arm chooses from, by the held-out loss of candidates that differ in nothing else.

    settings: keys of a run, as its configuration nests them (`training: {lr: [1.0e-3, 1.0e-2]}`), each with a list of values;
        all their combinations are candidates.
    """

    seed: int = Field(ge=0, lt=2**63, description="of the candidates; none of the study's seeds")
    settings: dict[Literal["training", "model"], dict[str, Any]]
    steps: int | None = Field(None, ge=1, description="length of a candidate's training; none given: training.steps")

    @field_validator("settings")
    @classmethod
    def _lists_of_values(cls, settings: dict[str, Any]) -> dict[str, Any]:
        found = list(_lists(settings))
        for key, values in found:
            if not isinstance(values, list) or not values or any(not isinstance(v, str | int | float | bool) for v in values):
                raise ValueError(f"{key} is {shown(values)}; give it a list of values to choose from")
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: {values} names a value twice")
        if not found:
            raise ValueError("names no setting to choose; write training: {lr: [...]}, or leave `choice` out")
        return settings

    def candidates(self) -> list[dict[str, Scalar]]:
        """Every combination of settings, by their dotted keys."""
        lists = dict(_lists(self.settings))
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _lists(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _lists(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} names a seed twice; name each once")
    return seeds


Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], AfterValidator(_once)]


class StudyParams(Strict):
    """The block of a study in params.yaml. A study adds what it varies, and says more closely what it takes."""

    seeds: Seeds = Field(min_length=1)
    data: Annotated[DataConfig, DATA]
    training: TrainingConfig | None
    choice: ChoiceParams | None = None
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    parallel: Parallel = Parallel()
    resources: Resources = Resources()
    if TYPE_CHECKING:
        evaluation: Any
        """A mapping of parts, or a model whose fields are parts; a study says which."""

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
    chooses: factors that name its choice of settings; arms with the same ones share it, and may differ in training.steps
        alone, and in the model where they have one `candidate`. None given: its `factors`.
    candidate: the model that its candidates train. None given: its own.
    choice: what it chooses from, in place of the study's `choice`.
    parts: of the evaluation, those that measure it. None given: all.
    seeds: of the study's, those that it is trained with. None given: all.
    trains: False of a model that is measured as it is built.
    """

    factors: dict[str, Scalar]
    model: ModelConfig
    derived: dict[str, Scalar] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    data: DataConfig | None = None
    chooses: dict[str, Scalar] | None = None
    candidate: ModelConfig | None = None
    choice: ChoiceParams | None = None
    parts: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    trains: bool = True


def runs(study: ModuleType, values: Mapping[str, Any], scale: str, where: str) -> Iterator[Run]:
    """Every arm of the study with every seed. values: its block of params.yaml, as resolved for `scale`."""
    name = study.__name__.rpartition(".")[2]
    params: StudyParams = study.Params.parse(values, where)
    found: dict[str, Arm] = {}
    try:
        _each_once(params.model_dump(mode="json"))
        for arm in study.arms(params):
            first = found.setdefault(_choice_name(arm), arm)
            if first is arm:
                yield from _candidates_of(arm, name, params, scale)
            elif _choice_of(arm, params) is not None and _all_but_steps(first) != _all_but_steps(arm):
                raise ConfigError(f"two arms choose as {_choice_name(arm)} and differ in more than training.steps")
            yield from _runs_of(arm, name, params, scale)
    except ValidationError as error:  # values that are fine alone and do not fit together
        raise explain(error, where) from None
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where}: {error}") from None


def _each_once(values: Any, key: str = "") -> None:
    """`ConfigError` where a list names something twice: it would be measured, or laid over itself, without a word.

    What has a `kind` is named by it; numbers are amounts, which may be equal.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            _each_once(value, f"{key}.{name}" if key else name)
    elif isinstance(values, list):
        names = [value.get("kind") if isinstance(value, Mapping) else value for value in values]
        for number, name in enumerate(names):
            if isinstance(name, str) and name in names[:number]:
                raise ConfigError(f"{key}: names {name} twice; name each once")
        for value in values:
            _each_once(value, key)


def _runs_of(arm: Arm, study: str, params: StudyParams, scale: str) -> Iterator[Run]:
    """The arm with every seed."""
    training = params.training.replace(**arm.training) if params.training is not None and arm.trains else None
    parts = params.parts()
    if arm.parts is not None:
        if unknown := [part for part in arm.parts if part not in parts]:
            raise ConfigError(f"parts: {unknown[0]!r} is no part of the evaluation{nearest(unknown[0], list(parts))}")
        parts = {part: parts[part] for part in arm.parts}
    for seed in params.seeds if arm.seeds is None else arm.seeds:
        if seed not in params.seeds:
            raise ConfigError(f"seeds: {seed} is none of the study's, which are {', '.join(map(str, params.seeds))}")
        run = _run(arm, study, params, scale, seed).replace(
            training=training, evaluation=parts, choice="" if _choice_of(arm, params) is None else _choice_name(arm)
        )
        run.check()
        yield run


def _candidates_of(arm: Arm, study: str, params: StudyParams, scale: str) -> Iterator[Run]:
    """The runs that the arm's settings are chosen from."""
    choice = _choice_of(arm, params)
    if choice is None:
        return
    unmeasured = ConfigError("choice needs training.validate_every above 0, since the held-out loss decides")
    if params.training is None:
        raise unmeasured
    if choice.seed in params.seeds:
        raise ConfigError(f"choice.seed: {choice.seed} is one of `seeds`; choose on another one")
    # One that diverges is never chosen, and stops nothing.
    changes = _all_but_steps(arm)[2] | {"steps": choice.steps or params.training.steps, "on_divergence": "record"}
    training = params.training.replace(**changes)
    factors = arm.factors if arm.chooses is None else arm.chooses
    for number, settings in enumerate(choice.candidates()):
        run = _run(arm, study, params, scale, choice.seed).replace(
            model=_candidate_of(arm),
            name=run_name({**factors, "candidate": number}, choice.seed),
            factors={**factors, "candidate": number},
            training=training,
            choice=_choice_name(arm),
        )
        try:
            values = choices.apply(run.model_dump(), settings)
        except ConfigError as error:
            raise ConfigError(f"choice.settings: {error}") from None
        run = Run.parse(values | {"settings": settings}, "choice.settings")
        if run.training is None or not run.training.validate_every:
            raise unmeasured
        run.check()
        yield run


def _run(arm: Arm, study: str, params: StudyParams, scale: str, seed: int) -> Run:
    return Run(
        study=study,
        scale=scale,
        name=run_name(arm.factors, seed),
        seed=seed,
        factors=arm.factors | arm.derived,
        data=arm.data or params.data,
        model=arm.model,
        training=params.training,
        compute=params.compute,
        reporting=params.reporting,
        parallel=params.parallel,
        resources=params.resources,
    )


def _candidate_of(arm: Arm) -> ModelConfig:
    return arm.model if arm.candidate is None else arm.candidate


def _all_but_steps(arm: Arm) -> tuple[ModelConfig, DataConfig | None, dict[str, Any]]:
    """Model, data and training of an arm's candidates, apart from the length of the training."""
    return _candidate_of(arm), arm.data, {key: value for key, value in arm.training.items() if key != "steps"}


def _choice_of(arm: Arm, params: StudyParams) -> ChoiceParams | None:
    """What the arm chooses from; None where its settings are given."""
    return params.choice if arm.choice is None else arm.choice


def _choice_name(arm: Arm) -> str:
    """Names the file of the arm's choice."""
    return run_name(arm.factors if arm.chooses is None else arm.chooses) or "all"
