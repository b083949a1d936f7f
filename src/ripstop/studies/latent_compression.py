"""What is a document worth as a few vectors that a frozen language model reads in its place?

Varies: what compresses (the headline's arms with every seed, the others with the first), the number of vectors M, which of two
frozen models reads the wire, or both, and where the questions come from. The same questions are put to the frozen models with
the text, whole or cut to as many tokens or bytes, and without it, in runs that train nothing. Whether a model uses its wire is
the loss with another document's wire minus that with the own one. Refuted would be: a wire that is no better than another
document's, which is prompt tuning and no compression; one that loses to the first M tokens of the text, or to the text cut to
as many bytes; one for two models that costs either of them more than a wire of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ripstop.config import ArmName, ConfigError, Size, Strict, nearest
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answer_gaps import AnswerGapsConfig
from ripstop.evaluation.answers import AnswersConfig
from ripstop.evaluation.text_answers import TextAnswersConfig
from ripstop.evaluation.wire_ceiling import WireCeilingConfig
from ripstop.evaluation.wire_probe import WireProbeConfig
from ripstop.frozen import FROZEN
from ripstop.frozen.base import FrozenConfig
from ripstop.models.compressors import COMPRESSORS
from ripstop.models.compressors.base import CompressorConfig
from ripstop.models.presets import lay_over
from ripstop.models.soft_prompt import SoftPromptConfig
from ripstop.paper.wires import BOTH, FIRST, FORMATS, HEADLINE, MAIN, NARROW, SECOND, SMALLEST, TEXT
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig
from ripstop.wire.quantize import n_bytes

CONSTANT = "constant"
"""The arm whose wire reads no document; also what the run without a wire is built with, which reads none either."""
SHARED = "pointer"
"""The arm that is trained for the second model, and for both, too."""
TOLD_BY_ARM = ("frozen", "features_of", "compressor", "n_vectors")
"""Keys of a model that follow from its arm: among `soft_prompt` they would give it another model than its name says."""


class Evaluation(Strict):
    """answers, gaps: of every wire; answers alone of the constant one. checks, gaps_more, probe: of the headline's first seed.
    shared: of one wire for two models. text, ceiling: of the run without a wire."""

    answers: AnswersConfig
    checks: AnswersConfig
    gaps: AnswerGapsConfig
    gaps_more: AnswerGapsConfig
    shared: AnswerGapsConfig
    probe: WireProbeConfig | None = None
    text: TextAnswersConfig
    ceiling: WireCeilingConfig


class Variant(Strict):
    """One of the compressors with other settings of its model (`soft_prompt`), or of its training.

    parts: of the evaluation, those that measure it besides the usual ones.
    """

    compressor: ArmName
    soft_prompt: dict[str, Any] = {}
    training: dict[str, Any] = {}
    parts: list[Literal["checks", "gaps_more", "probe"]] = []


class Params(StudyParams):
    """frozen: the two models, `first` and `second`. A wire of one model reads features of its own; a shared one the first's.

    n_vectors: M, the headline's first; with the others its arms and the constant wire are trained too. soft_prompt: further
    settings of every model, such as d_z. sources: other data, by name, on which the headline and the constant wire are trained
    too. variants: further arms, by name.
    """

    data: QuestionsConfig
    training: TrainingConfig
    frozen: dict[ArmName, Annotated[FrozenConfig, FROZEN]]
    n_vectors: list[Size] = Field(min_length=1)
    compressors: dict[ArmName, Annotated[CompressorConfig, COMPRESSORS]]
    soft_prompt: dict[str, Any] = {}
    sources: dict[ArmName, QuestionsConfig] = {}
    variants: dict[ArmName, Variant] = {}
    evaluation: Evaluation

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if list(self.frozen) != [FIRST, SECOND]:
            raise ConfigError(f"frozen: names {', '.join(self.frozen) or 'none'}; name two models, {FIRST} and {SECOND}")
        if len(set(self.n_vectors)) < len(self.n_vectors):
            raise ConfigError(f"n_vectors: {self.n_vectors} names one twice; name each once")
        if MAIN in self.sources:
            raise ConfigError(f"sources: {MAIN} is what `data` is called; choose another name")
        if TEXT in self.compressors:
            raise ConfigError(f"compressors: {TEXT} is what the run without a wire is called; choose another name")
        for name, variant in self.variants.items():
            if name in (*self.compressors, TEXT):
                raise ConfigError(f"variants: {name} is another arm's name; choose another one")
            if variant.compressor not in self.compressors:
                near = nearest(variant.compressor, list(self.compressors))
                raise ConfigError(f"variants.{name}.compressor: there is no {variant.compressor}{near}")
        for name in (*HEADLINE, CONSTANT):
            if name not in self.compressors:
                near = nearest(name, list(self.compressors))
                raise ConfigError(f"compressors: has no {name}, which the paper compares with{near}; add it")
            kind, reads = self.compressors[name].kind, self.compressors[name].reads
            if (reads == "nothing") != (name == CONSTANT):
                wanted = "reads no document" if name == CONSTANT else "reads documents"
                raise ConfigError(f"compressors.{name}: a {kind} reads {reads}; choose a kind that {wanted}")
        if NARROW not in self.variants:
            near = nearest(NARROW, list(self.variants))
            raise ConfigError(f"variants: has no {NARROW}, whose wire takes fewer bytes than a text{near}; add it")
        settings = {f"variants.{name}.soft_prompt": variant.soft_prompt for name, variant in self.variants.items()}
        for where, given in {"soft_prompt": self.soft_prompt, **settings}.items():
            for key in TOLD_BY_ARM:
                if key in given:
                    raise ConfigError(f"{where}.{key}: the arms of the study say it; leave it out")
        return self


def arms(params: Params) -> Iterator[Arm]:
    """For every source and M the text, the constant wire and the headline; for the study's own data and first M all others,
    and the wires of the second model and of both."""
    _is_measured(params)
    for source in (MAIN, *params.sources):
        for n_vectors in params.n_vectors if source == MAIN else params.n_vectors[:1]:
            yield _arm(params, TEXT, n_vectors, BOTH, source)
            whole = source == MAIN and n_vectors == params.n_vectors[0]
            for name in params.compressors:
                if name in HEADLINE:
                    yield from _headline(params, name, n_vectors, source, whole)
                elif name == CONSTANT or whole:
                    yield _arm(params, name, n_vectors, FIRST, source)
    for name, variant in params.variants.items():
        arm = _arm(params, name, params.n_vectors[0], FIRST, MAIN, variant.parts)
        if name == NARROW:
            _is_cut_to(params, arm)
        yield arm
    for readers in (SECOND, BOTH):
        yield _arm(params, SHARED, params.n_vectors[0], readers, MAIN)


def _headline(params: Params, name: str, n_vectors: int, source: str, whole: bool) -> Iterator[Arm]:
    """The first seed is measured by more parts than the others."""
    first, *others = params.seeds
    more: list[str] = [part for part in ("checks", "gaps_more", "probe") if part in params.parts()]
    yield _arm(params, name, n_vectors, FIRST, source, more)
    if others and whole:
        yield _arm(params, name, n_vectors, FIRST, source, seeds=tuple(others))


def _arm(
    params: Params, name: str, n_vectors: int, readers: str, source: str, more: Sequence[str] = (),
    seeds: tuple[int, ...] | None = None,
) -> Arm:  # fmt: skip
    """more: parts that measure it besides those of its kind."""
    parts = ["text", "ceiling"] if name == TEXT else ["answers"] if name == CONSTANT else ["answers", "gaps"]
    if name == SHARED and readers == BOTH:
        parts.append("shared")
    first, second = params.frozen[FIRST], params.frozen[SECOND]
    frozen = {FIRST: {FIRST: first}, SECOND: {SECOND: second}, BOTH: {FIRST: first, SECOND: second}}[readers]
    variant = params.variants.get(name, Variant(compressor=CONSTANT if name == TEXT else name))
    compressor = params.compressors[variant.compressor]
    settings = lay_over(params.soft_prompt, variant.soft_prompt)
    values = {"frozen": frozen, "compressor": compressor, "n_vectors": n_vectors, **settings}
    if compressor.reads == "features":
        values["features_of"] = next(iter(frozen))
    else:
        values.pop("feature_layer", None)
    model = SoftPromptConfig.parse(values, f"variants.{name}.soft_prompt" if variant.soft_prompt else "soft_prompt")
    _check_training(params, variant, name)
    _check_layer(model)
    return Arm(
        factors={"source": source, "compressor": name, "n_vectors": n_vectors, "readers": readers},
        derived={"size": "headline" if n_vectors == params.n_vectors[0] else "other"},
        model=model,
        training=variant.training,
        data=params.data if source == MAIN else params.sources[source],
        trains=name != TEXT,
        parts=tuple([*parts, *more]),
        seeds=tuple(params.seeds[:1]) if seeds is None else seeds,
    )


def _check_training(params: Params, variant: Variant, name: str) -> None:
    try:
        params.training.replace(**variant.training)
    except ConfigError as error:
        raise ConfigError(f"variants.{name}.training: {error}") from None


def _check_layer(model: SoftPromptConfig) -> None:
    """`ConfigError` where the frozen model has no such layer, as far as that is known before it is built."""
    known = model.frozen[model.features_of].sizes() if model.features_of is not None else None
    layer = model.feature_layer
    if known is not None and layer is not None and layer >= known.n_layers:
        last = f"{model.features_of}, whose last one is {known.n_layers - 1}"
        raise ConfigError(f"soft_prompt.feature_layer: {layer} is no layer of {last}; lower it")


def _is_cut_to(params: Params, arm: Arm) -> None:
    """`ConfigError` where no text is cut to the bytes of the arm's wire in the smallest format."""
    assert isinstance(arm.model, SoftPromptConfig)
    size = n_bytes(arm.model.wire_format(SMALLEST))
    if size not in params.evaluation.text.sizes:
        raise ConfigError(
            f"evaluation.text.sizes: lacks {size}, the bytes of {arm.factors['compressor']}'s wire in {SMALLEST}, which the "
            "paper compares with text; add it"
        )


def _is_measured(params: Params) -> None:
    """`ConfigError` where what is printed would not be measured: before anything trains."""
    evaluation = params.evaluation
    needs: dict[str, tuple[list[str], tuple[str, ...]]] = {
        "answers.prompts": (list(evaluation.answers.prompts), ("own", "wrong")),
        "answers.written": (list(evaluation.answers.written), ("own",)),
        "checks.prompts": (list(evaluation.checks.prompts), ("shuffled", "zero", "random", "swapped", "beside")),
        "checks.formats": (list(evaluation.checks.formats), FORMATS),
        "text.formats": (list(evaluation.text.formats), FORMATS),
        "gaps.over": (
            evaluation.gaps.over,
            ("wrong", "closed", "cut_tokens", "text", "constant", *HEADLINE),
        ),
        "gaps_more.over": (evaluation.gaps_more.over, ("zero", "random", "formats", "cut_bytes", "beside")),
        "gaps_more.gaps": (list(evaluation.gaps_more.gaps), ("text", "ceiling")),
        "shared.over": (evaluation.shared.over, ("alone",)),
    }
    if NARROW in params.variants:
        needs |= {f"variants.{NARROW}.parts": (list(params.variants[NARROW].parts), ("checks", "gaps_more"))}
    for where, (given, needed) in needs.items():
        missing = [name for name in needed if name not in given]
        if missing:
            raise ConfigError(f"evaluation.{where}: lacks {', '.join(missing)}, which the paper prints; add it")
    readers = evaluation.ceiling.readers
    if readers is not None and (not readers or set(readers) - set(params.frozen)):
        raise ConfigError(f"evaluation.ceiling.readers: {readers} is not one or more of {', '.join(params.frozen)}; correct it")
    if not evaluation.text.written:
        raise ConfigError("evaluation.text.written: is false, and the paper prints EM and F1; set it to true")
