"""What do window, sink, cycle and latent rank cost a language model of sliding-window and latent attention?

Varies: the architecture at equal parameters and tokens (the cycle of windows and latents against windows, latents or full
attention alone, and against Mamba-2 with attention); one thing at a time in the cycle (window, sink, cycle, latent rank,
isolation of packed documents); the optimizer, each with as many learning rates to choose from; high learning rates with and
without a sink, where a training that diverges is an outcome; and the seed. Held-out documents are always isolated.
Refuted would be: latent layers that help nothing past the window; a sink that a trained model does not lean on, or that
trainings do without; a rank, a window or a cycle whose saving shows in bits per byte. A model that is no better than an n-gram
model of the same text has learnt too little to be asked any of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ripstop.config import ArmName, ConfigError, Size, Strict
from ripstop.data.text import TextConfig
from ripstop.evaluation.bits_per_byte import BitsPerByteConfig
from ripstop.evaluation.dropped_sinks import DroppedSinksConfig
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.ngram import NgramConfig
from ripstop.evaluation.stability import StabilityConfig
from ripstop.evaluation.state_size import StateSizeConfig
from ripstop.evaluation.text_samples import TextSamplesConfig
from ripstop.mixers.mla import MlaConfig
from ripstop.mixers.sliding_window import SlidingWindowConfig
from ripstop.models import pattern as patterns
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.equal_parameters import with_parameters_of
from ripstop.paper.language_models import BASE
from ripstop.records import Scalar
from ripstop.studies.base import Arm, ChoiceParams, Seeds, StudyParams
from ripstop.training.config import TrainingConfig
from ripstop.training.optimizers import OPTIMIZERS
from ripstop.training.optimizers.base import OptimizerConfig


class Evaluation(Strict):
    """bits, state, samples, without_sinks: of language models; curve: of the optimizers' trainings; stability: of those with
    high learning rates; ngram, ngram_valid: of the data, once. State and samples are of the first seed."""

    bits: BitsPerByteConfig
    without_sinks: DroppedSinksConfig
    state: StateSizeConfig
    samples: TextSamplesConfig = TextSamplesConfig()
    curve: LearningCurveConfig = LearningCurveConfig()
    stability: StabilityConfig = StabilityConfig()
    ngram: NgramConfig = NgramConfig()
    ngram_valid: NgramConfig = NgramConfig(split="valid")


class Sweeps(Strict):
    """Values of one thing, each in the base model; its own value among them is the base arm.

    cycle: letters that are repeated to the base's depth. isolation: whether an arm trains without it.
    """

    window: list[Size] = []
    sink: list[Annotated[int, Field(ge=0)]] = []
    cycle: list[ArmName] = []
    rank: list[Size] = []
    isolation: bool = False


class Tuned(Strict):
    """An optimizer, and the learning rates that it chooses from."""

    optimizer: Annotated[OptimizerConfig, OPTIMIZERS]
    lr: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)


class Optimizers(Strict):
    """steps, validate_every: of these trainings. seed, candidate_steps: of their candidates; none given: `steps`."""

    steps: int = Field(ge=1)
    validate_every: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**63, description="of the candidates; none of the study's seeds")
    candidate_steps: int | None = Field(None, ge=1)
    seeds: Seeds | None = Field(None, description="of the study's; none given: all")
    arms: dict[ArmName, Tuned] = Field(min_length=1)


class Stability(Strict):
    """Short trainings at high learning rates, the lowest of which every model stands, with each size of the sink."""

    steps: int = Field(ge=1)
    validate_every: int = Field(ge=1)
    lr: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=2)
    sinks: list[Annotated[int, Field(ge=0)]] = Field(min_length=2)
    seeds: Seeds | None = Field(None, description="of the study's; none given: all")

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if self.lr != sorted(set(self.lr)):
            raise ValueError(f"lr must rise without repeats, and is {self.lr}")
        return self


class Params(StudyParams):
    """model: the base, whose `mixers` hold the letters of all patterns. preset: a named one, over which `model` is laid.

    architectures: patterns of other models, with the mlp as wide as equal parameters ask for. sizes: names of presets, which
    are trained like the base and compared with nothing.
    """

    data: TextConfig
    training: TrainingConfig
    preset: str | None = None
    model: DecoderOnlyConfig
    architectures: dict[ArmName, str]
    sweeps: Sweeps = Sweeps()
    optimizers: Optimizers | None = None
    stability: Stability | None = None
    sizes: dict[ArmName, str] = {}
    evaluation: Evaluation

    @model_validator(mode="before")
    @classmethod
    def _over_a_preset(cls, values: Any) -> Any:
        named = values.get("preset") if isinstance(values, Mapping) else None
        model = values.get("model", {}) if named else None
        return values if not isinstance(model, Mapping) else {**values, "model": {"preset": named, **model}}


def arms(params: Params) -> Iterator[Arm]:
    """The base, other architectures, sweeps around the base, optimizers, high learning rates, and the n-gram baseline."""
    _is_measured(params)
    base = _trimmed(params.model)
    own = told(base)
    yield from _measured(params, Arm({"sweep": "architecture", "architecture": BASE}, base, own), sinks=True)
    for name, pattern in params.architectures.items():
        model = with_parameters_of(_trimmed(params.model.replace(pattern=pattern)), base)
        yield from _measured(params, Arm({"sweep": "architecture", "architecture": name}, model))
    for name, preset in params.sizes.items():
        size = DecoderOnlyConfig.parse({"preset": preset}, f"sizes.{name}")
        yield from _measured(params, Arm({"sweep": "size", "size": name}, _trimmed(size)))
    yield from _sweeps(params, base, own)
    yield from _optimizers(params, base)
    yield from _high_rates(params, base)
    yield Arm({"sweep": "baseline"}, base, parts=("ngram", "ngram_valid"), seeds=(params.seeds[0],), trains=False)


def _measured(params: Params, arm: Arm, *, sinks: bool = False, state: bool = True) -> Iterator[Arm]:
    """A language model with every seed, of which the first tells what no seed moves; the base and sizes write samples."""
    first, *others = params.seeds
    parts = ["bits", *(["without_sinks"] if sinks else [])]
    more = [*(["state"] if state else []), *(["samples"] if sinks or "size" in arm.factors else [])]
    for seeds, names in (((first,), [*parts, *more]), (tuple(others), parts)):
        if seeds:
            yield Arm(arm.factors, arm.model, arm.derived, arm.training, arm.data, parts=tuple(names), seeds=seeds)


def _sweeps(params: Params, base: DecoderOnlyConfig, own: dict[str, Scalar]) -> Iterator[Arm]:
    """One thing at a time, at equal parameters where it has some."""
    sweeps = params.sweeps
    changed: dict[str, list[tuple[Scalar, DecoderOnlyConfig]]] = {
        "window": [(size, _replaced(base, SlidingWindowConfig, window_size=size)) for size in sweeps.window],
        "sink": [(size, _replaced(base, SlidingWindowConfig, sink_size=size)) for size in sweeps.sink],
        "cycle": [(cycle, _trimmed(params.model.replace(pattern=_repeated(cycle, base)))) for cycle in sweeps.cycle],
        "rank": [(rank, _replaced(base, MlaConfig, kv_lora_rank=rank)) for rank in sweeps.rank],
    }
    for sweep, models in changed.items():
        for value, model in models:
            if value != own[sweep]:
                share: dict[str, Scalar] = {"latent_share": _latent_share(model)} if sweep == "cycle" else {}
                arm = Arm({"sweep": sweep, sweep: value}, with_parameters_of(model, base), share)
                yield from _measured(params, arm, state=sweep != "sink")
    if sweeps.isolation:
        factors: dict[str, Scalar] = {"sweep": "isolation", "isolation": "off"}
        yield from _measured(params, Arm(factors, base, data=params.data.replace(isolate=False)), state=False)


def _optimizers(params: Params, base: DecoderOnlyConfig) -> Iterator[Arm]:
    block = params.optimizers
    if block is None:
        return
    for name, tuned in block.arms.items():
        yield Arm(
            factors={"sweep": "optimizers", "optimizer": name},
            model=base,
            training={
                "optimizer": tuned.optimizer.model_dump(),
                "steps": block.steps,
                "validate_every": block.validate_every,
            },
            choice=ChoiceParams(
                seed=block.seed, settings={"training": {"lr": tuned.lr}}, steps=block.candidate_steps or block.steps
            ),
            parts=("curve",),
            seeds=None if block.seeds is None else tuple(block.seeds),
        )


def _high_rates(params: Params, base: DecoderOnlyConfig) -> Iterator[Arm]:
    block = params.stability
    if block is None:
        return
    for sink in block.sinks:
        for lr in block.lr:
            yield Arm(
                factors={"sweep": "stability", "sink": sink, "lr": lr},
                model=_replaced(base, SlidingWindowConfig, sink_size=sink),
                training={
                    "lr": lr, "steps": block.steps, "validate_every": block.validate_every, "on_divergence": "record",
                },
                parts=("stability",),
                seeds=None if block.seeds is None else tuple(block.seeds),
            )  # fmt: skip


def told(base: DecoderOnlyConfig) -> dict[str, Scalar]:
    """What the sweeps vary, as the base has it; `ConfigError` where it has none of it, or more than one value."""
    windows = {mixer for mixer in base.stack.mixers if isinstance(mixer, SlidingWindowConfig)}
    latents = {mixer for mixer in base.stack.mixers if isinstance(mixer, MlaConfig)}
    if len(windows) != 1 or len(latents) != 1:
        raise ConfigError(
            f"model.pattern: {base.pattern!r} has {len(windows)} kinds of sliding_window and {len(latents)} of mla layers; the "
            "study cycles one of each"
        )
    (window,), (latent,) = windows, latents
    return {
        "window": window.window_size,
        "sink": window.sink_size,
        "cycle": _cycle(patterns.parse(base.pattern)),
        "rank": latent.kv_lora_rank,
        "isolation": "on",
        "latent_share": _latent_share(base),
    }


def _cycle(layers: str) -> str:
    """The shortest text whose repetition they are."""
    return next(layers[:n] for n in range(1, len(layers) + 1) if layers[:n] * (len(layers) // n) == layers)


def _repeated(cycle: str, base: DecoderOnlyConfig) -> str:
    depth = len(patterns.parse(base.pattern))
    if depth % len(cycle):
        raise ConfigError(f"sweeps.cycle: {cycle} does not repeat to the model's {depth} layers; take one that does")
    return cycle * (depth // len(cycle))


def _latent_share(model: DecoderOnlyConfig) -> float:
    kinds = [mixer.kind for mixer in model.stack.mixers]
    return kinds.count("mla") / len(kinds)


def _trimmed(model: DecoderOnlyConfig) -> DecoderOnlyConfig:
    """With the mixers of its pattern alone, so that a run depends on no other's settings."""
    return model.replace(mixers=patterns.used(model.mixers, model.pattern))


def _replaced(model: DecoderOnlyConfig, kind: type[Strict], **changes: Any) -> DecoderOnlyConfig:
    """With changed settings of its mixers of one kind."""
    return model.replace(
        mixers={letter: m.replace(**changes) if isinstance(m, kind) else m for letter, m in model.mixers.items()}
    )


def _is_measured(params: Params) -> None:
    """`ConfigError` where what is printed would not be measured, or not be comparable: before anything trains."""
    own, parts = told(_trimmed(params.model)), params.evaluation
    window, sink, rank = (int(own[name]) for name in ("window", "sink", "rank"))
    if BASE in params.architectures:
        raise ConfigError(f"architectures.{BASE}: is the base, whose pattern is model.pattern; remove it here")
    if not sink:
        raise ConfigError("model.mixers: the sliding_window has no sink, which is dropped and swept; set its sink_size")
    for sweep, needed in (("window", {window // 2, 2 * window}), ("rank", {rank // 2}), ("sink", {0})):
        values = getattr(params.sweeps, sweep)
        if values and (lacking := sorted(needed - set(values))):
            raise ConfigError(f"sweeps.{sweep}: {lacking[0]} is not among {values}, and the paper compares it; add it")
    if params.sweeps.cycle:
        models = [_trimmed(params.model.replace(pattern=cycle)) for cycle in params.sweeps.cycle]
        if max(map(_latent_share, models)) <= float(own["latent_share"]):
            raise ConfigError(f"sweeps.cycle: none has more latent layers than the base's {own['cycle']}; add one")
    bits, dropped = parts.bits, parts.without_sinks
    if bits.past is None or bits.past < window + sink:
        raise ConfigError(
            f"evaluation.bits.past: is {bits.past}, and the past begins behind the base's window and sink, at {window + sink}; "
            "set it to at least that"
        )
    for name in ("split", "positions", "past"):
        if getattr(bits, name) != getattr(dropped, name):
            raise ConfigError(f"evaluation.without_sinks.{name}: differs from that of evaluation.bits; compare the same text")
    if window not in bits.positions:
        raise ConfigError(f"evaluation.bits.positions: {window} is not among them, where sinks begin to matter; add it")
    if (parts.ngram.split, parts.ngram_valid.split) != (bits.split, "valid") or bits.split == "valid":
        raise ConfigError("evaluation.ngram: has the split of evaluation.bits, test, and ngram_valid has valid; correct them")
    if parts.ngram.orders != parts.ngram_valid.orders:
        raise ConfigError("evaluation.ngram_valid.orders: differ from those of ngram, which are chosen on it; make them equal")
    if parts.state.seq_len is None:
        raise ConfigError("evaluation.state.seq_len: is not given, and the paper names the context of a state; set it")
    if params.optimizers is not None:
        if params.optimizers.seed in params.seeds:
            raise ConfigError(f"optimizers.seed: {params.optimizers.seed} is one of `seeds`; choose on another one")
        counts = {name: len(tuned.lr) for name, tuned in params.optimizers.arms.items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} {n}" for name, n in counts.items())
            raise ConfigError(f"optimizers.arms: learning rates to choose from are {said}; give each optimizer as many")
    if params.stability is not None:
        for size in (0, sink):
            if size not in params.stability.sinks:
                raise ConfigError(f"stability.sinks: {size} is not among {params.stability.sinks}, and is compared; add it")
