"""How many attention layers does a Mamba-2 translator of documents need, and what makes it translate?

Varies: the decoder's pattern, from pure Mamba-2 over the hybrid ratios to pure attention, and the seed. The encoder, the
positions of cross-attention, the start of the weights, the data (German translations of English documents, held out by
whole books) and the number of updates stay the same; parameters differ by the mixers alone and are recorded.
Refuted would be: hybrids that are no better than both pure models, or a clear optimum where the literature finds a flat
region. Wrong and shuffled sources tell how much of the loss the source accounts for.

The ablations change one thing each in one of the hybrids, all with the same number of updates, and are compared with its
unchanged arm of as many: the encoder's direction, the decoder's recurrent layers, how training windows are joined, the
layers that read the source, what the weights start from, longer windows at the end. One trains longer instead, until it
writes sentences that a reader recognises, and shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from ripstop.config import ArmName, ConfigError, Size, Strict, nearest
from ripstop.data.base import one_line
from ripstop.data.documents import DocumentsConfig
from ripstop.data.hub import HubConfig
from ripstop.data.lines import LinesConfig
from ripstop.evaluation.comet import CometConfig
from ripstop.evaluation.context import ContextConfig
from ripstop.evaluation.likelihood import LikelihoodConfig
from ripstop.evaluation.long_windows import LongWindowsConfig
from ripstop.evaluation.overlap import OverlapConfig
from ripstop.evaluation.pronouns import PronounsConfig
from ripstop.evaluation.quality import QualityConfig
from ripstop.evaluation.samples import SamplesConfig
from ripstop.evaluation.translation import TranslationConfig
from ripstop.evaluation.translation_cost import TranslationCostConfig
from ripstop.layers.mlp import MlpConfig
from ripstop.mixers import MIXERS
from ripstop.mixers.base import MixerConfig
from ripstop.models.pattern import letter_counts, used
from ripstop.models.presets import lay_over
from ripstop.models.starts import STARTS
from ripstop.models.starts.base import StartConfig
from ripstop.models.translator import TranslatorConfig
from ripstop.paper.ablations import printed_of
from ripstop.paper.contrast import CXMI, LINES
from ripstop.paper.studies.hybrid_ratio import BASELINE
from ripstop.studies.base import Arm, Seeds, StudyParams
from ripstop.training.config import TrainingConfig

T = TypeVar("T")

PURE = {"0": 0.0, "all": 1.0}
"""Ratio -> share of attention layers, of those that are printed as the pure models."""
UNCHANGED = "none"
"""The value of the factor `ablation` of the arms that compare ratios."""


class Evaluation(Strict):
    """The loss on every test window under each control, on the long ones too, and the quality of some translations."""

    likelihood: LikelihoodConfig = LikelihoodConfig()
    long_windows: LongWindowsConfig | None = None
    overlap: OverlapConfig | None = None
    translation: TranslationConfig
    quality: QualityConfig | None = None
    samples: SamplesConfig | None = None
    comet: CometConfig | None = None
    context: ContextConfig | None = None
    pronouns: PronounsConfig | None = None
    cost: TranslationCostConfig | None = None


class Ablation(Strict):
    """What an arm changes; what it does not name stays. `data` is laid over the study's, key by key.

    mixers: in place of those of the study that have the same letters. steps: of its training; parts, seeds: of the evaluation
    and of the study; none given: those of all ablations.
    """

    encoder_pattern: str | None = None
    cross_attention_positions: list[int] | None = None
    start: list[Annotated[StartConfig, STARTS]] | None = None
    mixers: dict[str, Annotated[MixerConfig, MIXERS]] = {}
    data: dict[str, Any] = {}
    steps: int | None = Field(None, ge=1)
    parts: list[str] | None = None
    seeds: Seeds | None = None

    @property
    def changes_nothing(self) -> bool:
        return self.replace(parts=None, seeds=None) == Ablation()


class Ablations(Strict):
    """arms: each by its name; one without changes is what the others are compared with.

    parts, seeds: of the evaluation and of the study, those of these arms, where one does not name its own; none given: all.
    own_parts: those that measure no arm of the ratios.
    """

    ratio: ArmName = Field(description="key of `patterns`: the decoder of all these arms")
    steps: int = Field(ge=1, description="of their trainings, where one does not name its own")
    parts: list[str] | None = None
    own_parts: list[str] = []
    seeds: Seeds | None = None
    arms: dict[ArmName, Ablation] = Field(min_length=2)


class Params(StudyParams):
    """`patterns` names each decoder by its ratio of attention to Mamba-2 layers."""

    data: DocumentsConfig
    training: TrainingConfig
    d_model: Size
    n_cross_heads: Size = Field(description="heads of the cross-attention")
    mlp: MlpConfig | None
    encoder_pattern: str
    patterns: dict[ArmName, str] = Field(min_length=1)
    mixers: dict[str, Annotated[MixerConfig, MIXERS]]
    cross_attention_positions: list[int]
    start: list[Annotated[StartConfig, STARTS]] = []
    ablations: Ablations | None = None
    evaluation: Evaluation


def arms(params: Params) -> Iterator[Arm]:
    """Every ratio, then every ablation; the share of attention layers is recorded with each."""
    _is_measured(params.evaluation)
    left_out = [] if params.ablations is None else params.ablations.own_parts
    for part in left_out:
        if part not in Evaluation.model_fields:
            raise ConfigError(f"ablations.own_parts: {part!r} is no part{nearest(part, list(Evaluation.model_fields))}")
    for ratio in params.patterns:
        arm = _arm(params, ratio, UNCHANGED, Ablation())
        yield replace(arm, parts=tuple(part for part in params.parts() if part not in left_out))
    if params.ablations is None:
        return
    told = params.ablations
    if told.ratio not in params.patterns:
        raise ConfigError(f"ablations.ratio: {told.ratio!r} is no key of patterns, which are {', '.join(params.patterns)}")
    if not any(changes.changes_nothing for changes in told.arms.values()):
        raise ConfigError("ablations.arms: each changes something; add one without changes, which they are compared with")
    for name, changes in told.arms.items():
        parts, seeds = _first(changes.parts, told.parts), _first(changes.seeds, told.seeds)
        whole = params.parts()
        missing = [] if parts is None else [part for part in printed_of(name) if part in whole and part not in parts]
        if missing and set(parts or ()) <= whole.keys():  # else one is misspelt, which is told as such
            raise ConfigError(f"ablations.arms.{name}.parts: lacks {', '.join(missing)}, which the paper prints; add it")
        arm = replace(_arm(params, told.ratio, name, changes), parts=parts, seeds=seeds)
        if changes.steps is None:
            yield replace(arm, training={"steps": told.steps})
        else:
            yield replace(arm, training={"steps": changes.steps}, derived=arm.derived | {"steps": changes.steps})


def _first(*given: list[T] | None) -> tuple[T, ...] | None:
    """The first that is given."""
    return next((tuple(one) for one in given if one is not None), None)


def _is_measured(evaluation: Evaluation) -> None:
    """`ConfigError` where what is printed would not be measured: before anything is."""
    for name, reads in (("quality", evaluation.quality), ("comet", evaluation.comet), ("samples", evaluation.samples)):
        if reads is not None and reads.translation != "translation":
            raise ConfigError(f"evaluation.{name}.translation: {reads.translation!r} translates nothing; write translation")
    if evaluation.comet is not None:
        _check_home("evaluation.comet.model", evaluation.comet.model)
    against = None if evaluation.quality is None else evaluation.quality.against
    if against is not None and BASELINE not in against:
        raise ConfigError(f"evaluation.quality.against: lacks {BASELINE}, which the paper compares with; add it")
    for name, part, printed in (("context", evaluation.context, CXMI), ("pronouns", evaluation.pronouns, tuple(LINES))):
        missing = [context for context in printed if part is not None and context not in part.contexts]
        if missing:
            raise ConfigError(f"evaluation.{name}.contexts: lacks {', '.join(missing)}, which the paper prints; add it")


def _check_source(source: object) -> None:
    """`ConfigError` where the data would be tested on what it is trained on, or translated into itself."""
    if not isinstance(source, HubConfig | LinesConfig):
        return
    if isinstance(source, LinesConfig):
        _check_home("data.source.lines", source.lines)
    names = list(source.splits.model_dump().values())
    if len(set(names)) < len(names):
        raise ConfigError(f"data.source.splits: {', '.join(names)} names one twice; train, valid and test are three")
    columns = list(source.columns.values()) if isinstance(source, HubConfig) else []
    if len(set(columns)) < len(columns):
        raise ConfigError(f"data.source.columns: {', '.join(columns)} names one twice; each language has its own")


def _check_home(where: str, path: str) -> None:
    """`ConfigError` where a path begins with `~` and a user that there is not."""
    try:
        Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {path!r} cannot be looked for ({one_line(error)}); correct it") from None


def _arm(params: Params, ratio: str, ablation: str, changes: Ablation) -> Arm:
    pattern = params.patterns[ratio]
    encoder = changes.encoder_pattern or params.encoder_pattern
    positions = changes.cross_attention_positions
    start = params.start if changes.start is None else changes.start
    mixers = {**params.mixers, **changes.mixers}
    letters = letter_counts(encoder) | letter_counts(pattern)
    for letter in changes.mixers:
        if letter not in letters:
            raise ConfigError(
                f"ablations.arms.{ablation}.mixers.{letter}: no layer of {encoder!r} or {pattern!r} has it; there is: "
                f"{', '.join(sorted(letters))}"
            )
    model = TranslatorConfig(
        d_model=params.d_model,
        encoder_pattern=encoder,
        decoder_pattern=pattern,
        mixers=used(mixers, encoder, pattern),
        mlp=params.mlp,
        n_cross_heads=params.n_cross_heads,
        cross_attention_positions=params.cross_attention_positions if positions is None else positions,
        share_embeddings=False,
        start=start,
    )
    data = params.data
    if changes.data:
        data = DocumentsConfig.parse(lay_over(data.model_dump(), changes.data), f"ablations.arms.{ablation}.data")
    _check_source(data.source)
    if any(one.kind == "token_vectors" for one in start) and data.token_vectors != params.d_model:
        raise ConfigError(f"data.token_vectors: the weights start from them; set it to d_model, which is {params.d_model}")
    share = _attention_share(pattern, model.mixers)
    if share != PURE.get(ratio, share):
        raise ConfigError(
            f"patterns.{ratio}: {pattern!r} has {share:.0%} of attention layers, and {PURE[ratio]:.0%} by its name; correct one"
        )
    return Arm(
        factors={"ratio": ratio, "ablation": ablation},
        derived={"attention_share": share},
        model=model,
        data=data,
    )


def _attention_share(pattern: str, mixers: Mapping[str, MixerConfig]) -> float:
    counts = letter_counts(pattern)
    return sum(n for letter, n in counts.items() if mixers[letter].kind == "attention") / sum(counts.values())
