"""Does natively sparse attention find a needle that it was trained to find, at lengths that it was not trained on?

Varies: the architecture, how the selection of sparse attention is taught, the haystack (token ids, or real prose) and the seed.
Every run is trained on short rows and asked at each length and depth, by four families of questions, with its own haystack and
under the controls; beside the answers stands whether the needle's block was selected, and what the answering step read. Refuted
would be: a selection that is no better than luck; answers that survive a random selection without the summary; five ways of
teaching that come to the same; or a positive control (attention over everything, without positions) that does not find its
needle either, since then the task teaches nothing. That sparse attention answers better than full attention is not expected:
the claim is about how much is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from ripstop.config import ArmName, ConfigError, Size, Strict, nearest
from ripstop.data.needle import NeedleBase, NeedleConfig
from ripstop.data.needle_text import NeedleTextConfig
from ripstop.evaluation.needle import NeedlePartConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.teaching import TEACHINGS
from ripstop.mixers.nsa.teaching.base import TeachingConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.pattern import used
from ripstop.paper.needles import FAMILIES
from ripstop.paper.studies.nsa_needle import CONTROLS
from ripstop.records import Scalar
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig
from ripstop.training.objectives.taught_selection import TaughtSelectionConfig


class Evaluation(Strict):
    """Answers and selection, and how they were learnt."""

    needle: NeedlePartConfig = NeedlePartConfig()


class Prose(Strict):
    """The same questions in real prose, of some of the architectures; sparse attention is taught in one way there."""

    data: NeedleTextConfig
    architectures: list[ArmName] = Field(min_length=1)
    teaching: ArmName


class Params(StudyParams):
    """`patterns` names each architecture; its letters are the keys of `mixers`. One with sparse attention is an arm for each of
    `teaching`, which replaces that of its mixers."""

    data: NeedleConfig
    training: TrainingConfig
    d_model: Size
    embedding_std: float = Field(0.02, gt=0)
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    teaching: dict[ArmName, Annotated[TeachingConfig, TEACHINGS]] = Field(min_length=1)
    prose: Prose | None = None
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _prose_names_arms(self) -> Self:
        if self.prose is not None:
            for name in self.prose.architectures:
                if name not in self.patterns:
                    raise ConfigError(f"prose.architectures: no pattern is called {name!r}{nearest(name, list(self.patterns))}")
            if self.prose.teaching not in self.teaching:
                way = self.prose.teaching
                raise ConfigError(f"prose.teaching: no way of teaching is called {way!r}{nearest(way, list(self.teaching))}")
        return self


def arms(params: Params) -> Iterator[Arm]:
    """Every architecture, taught in every way that it can be taught, over token ids; then those over prose.

    The factor `arm` is all of an arm's others in one.
    """
    _is_measured(params)
    for architecture in params.patterns:
        yield from _arms_of(params, architecture, {"haystack": "tokens"}, params.teaching)
    if params.prose is not None:
        taught = {params.prose.teaching: params.teaching[params.prose.teaching]}
        for architecture in params.prose.architectures:
            yield from _arms_of(params, architecture, {"haystack": "prose"}, taught, params.prose.data)


def _arms_of(
    params: Params, architecture: str, factors: dict[str, Scalar], teaching: dict[str, TeachingConfig],
    data: NeedleTextConfig | None = None,
) -> Iterator[Arm]:  # fmt: skip
    """One arm, or one for each way of teaching where there is something to teach."""
    pattern = params.patterns[architecture]
    mixers = used(params.mixers, pattern)
    sparse = {letter: mixer for letter, mixer in mixers.items() if isinstance(mixer, NSAConfig)}
    ways: list[tuple[dict[str, Scalar], dict[str, MixerConfig]]] = [({}, {})]
    if sparse:
        ways = [
            ({"teaching": name}, {letter: mixer.replace(teaching=way) for letter, mixer in sparse.items()})
            for name, way in teaching.items()
        ]
    for named, taught in ways:
        told = {**factors, "architecture": architecture, **named}
        yield Arm(
            factors=told,
            derived={"arm": "_".join(map(str, told.values()))},
            model=DecoderOnlyConfig(
                d_model=params.d_model, pattern=pattern, mixers={**mixers, **taught}, embedding_std=params.embedding_std
            ),
            data=data,
        )


def _is_measured(params: Params) -> None:
    """`ConfigError` where what is printed would not be measured, or not as it is told: before anything trains."""
    part, data = params.evaluation.needle, params.data
    tested = {family for test in data.tests for family in test.families}
    for family in FAMILIES:
        if family not in tested:
            raise ConfigError(f"data.tests: no test asks {family}, which the paper prints; add it to the families of one")
    _has_depths("data", data)
    for control in ("own", "wrong", *CONTROLS):
        if control not in part.controls:
            raise ConfigError(f"evaluation.needle.controls: {control!r} is not among them, and the paper prints it; add it")
    single = _single(data)
    shortest, rows = min(single.items())
    if min(rows, part.tokens_at_once // shortest) < 2:
        raise ConfigError(
            f"data.tests: the control 'wrong' needs two rows of single at {shortest} tokens, the shortest length, "
            "that are read at once; raise its number of rows, or evaluation.needle.tokens_at_once"
        )
    if params.prose is not None:
        _has_depths("prose.data", params.prose.data)
        _is_beside(single, _single(params.prose.data))
    for where, of in (("data", data), *([("prose.data", params.prose.data)] if params.prose is not None else [])):
        length = of.tests[0].lengths[0]
        if part.n_parts > length:
            raise ConfigError(
                f"evaluation.needle.n_parts: the picture is of the first test of {where}, whose {length} tokens have no "
                f"{part.n_parts} parts; lower it to at most that"
            )
    if not isinstance(params.training.objective, TaughtSelectionConfig):
        kind = params.training.objective.kind
        raise ConfigError(f"training.objective: {kind} leaves out what teaches a selection; take taught_selection")
    if not params.training.validate_every:
        raise ConfigError("training.validate_every: is 0, and the paper prints how the arms learnt; set how often to look")


def _single(data: NeedleBase) -> dict[int, int]:
    """Length -> rows of the single needle's test."""
    return {length: rows for family, length, rows in data.tested() if family == "single"}


def _has_depths(where: str, data: NeedleBase) -> None:
    if not any(0 < depth < 1 for depth in data.depths):
        raise ConfigError(
            f"{where}.depths: {data.depths} has none between the first and the last, over which needles found are averaged; "
            "add one, such as 0.5"
        )


def _is_beside(tokens: dict[int, int], prose: dict[int, int]) -> None:
    """Prose is printed beside token ids at their longest length, and at no length that they lack."""
    if not prose or max(prose) != max(tokens):
        raise ConfigError(
            f"prose.data.tests: single is printed at {max(tokens)} tokens, the longest length of data.tests, and prose is "
            f"tested at {', '.join(map(str, prose)) or 'none'}; end both at one length"
        )
    for length in prose:
        if length not in tokens:
            raise ConfigError(
                f"prose.data.tests: single is tested at {length} tokens, and data.tests has not that length; add it"
            )
