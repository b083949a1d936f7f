"""What a whole translation costs by the length of its source, by its own length and by the batch: time and memory.

Time is of translating from nothing to the last token, greedily, and is split at the first one: reading the source and starting
(time to first token), then a step for each further token (inter-token latency, its mean). Every turn of the model has one of
a reference beside it, as in `decode_time`, so that models of different runs are compared by ratios.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.data.tokenizer import BOS
from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.evaluation.decode_bytes import DTYPES, Dtype
from ripstop.evaluation.tensor_memory import allocated_at_most
from ripstop.models import MODELS
from ripstop.models.base import Model, ModelConfig
from ripstop.records import Measurement, Scalar
from ripstop.training.randomness import seed_everything

if TYPE_CHECKING:
    from ripstop.runs import Run

Length = Annotated[int, Field(ge=2, le=2**20)]
Batch = Annotated[int, Field(ge=1, le=2**16)]


class Point(NamedTuple):
    """Tokens of the source, tokens that are written, and translations at once."""

    source: int
    target: int
    batch: int


class TranslationCostConfig(PartConfig):
    """Each of `sources`, `targets` and `batches` varies alone, the others staying at the first of their lists.

    Weights do not matter: what is written are the most likely tokens, and nothing ends before its length.
    reference: takes turns with the model; an encoder-decoder too, built for as many token ids. None given: no turns beside.
    """

    kind: Literal["translation_cost"] = "translation_cost"
    group: ClassVar[Group] = "efficiency"
    exclusive: bool = True
    sources: list[Length] = Field([64, 512, 4096], min_length=1)
    targets: list[Length] = Field([32, 128, 512], min_length=1)
    batches: list[Batch] = Field([1, 8, 32], min_length=1)
    n_turns: int = Field(2, ge=1, le=10**4, description="of each point, after one that is not recorded")
    dtype: Dtype = "float32"
    reference: Annotated[ModelConfig, MODELS] | None = None

    @field_validator("sources", "targets", "batches")
    @classmethod
    def _each_once(cls, values: list[int]) -> list[int]:
        if len(set(values)) < len(values):
            raise ValueError(f"{values} names one twice; name each once")
        return values

    def check(self, run: Run) -> None:
        for name, config in (("model", run.model), ("reference", self.reference)):
            if config is not None and not config.reads_source:
                raise ConfigError(f"{name}: a model of kind {config.kind} reads no source, and is no translator")

    def points(self) -> list[Point]:
        """Every point once, the cheapest first."""
        first = Point(self.sources[0], self.targets[0], self.batches[0])
        swept = [first._replace(source=n) for n in self.sources] + [first._replace(target=n) for n in self.targets]
        return sorted({*swept, *(first._replace(batch=n) for n in self.batches)}, key=lambda p: (p.batch * sum(p[:2]), p))

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        seed_everything(subject.run.seed)
        dtype, vocab_size = DTYPES[self.dtype], subject.run.data.vocab_size(subject.data)
        model = subject.model().to(dtype)
        models = {"": model}
        if self.reference is not None:
            models["reference_"] = self.reference.build(Vocabulary(vocab_size)).to(subject.device, dtype).eval()
        for point in self.points():
            place: dict[str, Scalar] = {"source": point.source, "target": point.target, "batch": point.batch}
            yield Measurement("translation_peak_bytes", peak_bytes(model, point), "bytes", 1, {**place})
            yield from _turns({name: Translations(one, point) for name, one in models.items()}, self.n_turns, place)


class Times(NamedTuple):
    """Seconds until the first tokens are there, and of all."""

    first: float
    whole: float


class Translations:
    """Translations of a batch of sources, all of one length and written to the same length."""

    def __init__(self, model: Model, point: Point):
        self.model, self.point = model, point
        self.device = next(model.parameters()).device
        self.source_BS = torch.zeros(point.batch, point.source, dtype=torch.int64, device=self.device)
        self.bos_B1 = torch.full((point.batch, 1), BOS, device=self.device)

    def __call__(self) -> Times:
        begin = self._now()
        tokens_B, state = self.start()
        first = self._now()
        self.go_on(tokens_B, state, self.point.target - 1)
        return Times(first - begin, self._now() - begin)

    def start(self) -> tuple[Tensor, Any]:
        """Read the sources, with room for what is to be written; the first tokens."""
        state = self.model.init_state(self.point.batch, self.point.target, self.source_BS)
        logits_BV, state = self.model.prefill(self.bos_B1, state)
        return logits_BV.argmax(-1), state

    def go_on(self, tokens_B: Tensor, state: Any, n_steps: int) -> Tensor:
        """Write further tokens; the last ones."""
        for _ in range(n_steps):
            logits_BV, state = self.model.step(tokens_B, state)
            tokens_B = logits_BV.argmax(-1)
        return tokens_B

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _turns(translations: dict[str, Translations], n_turns: int, place: dict[str, Scalar]) -> Iterator[Measurement]:
    """The times of every turn; who begins changes from turn to turn, and the turn that warms up is not recorded."""
    gc.collect()
    gc.disable()  # a collection of garbage stops whoever allocates next
    try:
        for turn in range(n_turns + 1):
            for name in list(translations)[:: -1 if turn % 2 else 1]:
                found = translations[name]()
                if turn:
                    yield from _measured(name, found, translations[name].point, {**place, "turn": turn})
    finally:
        gc.enable()


def _measured(name: str, times: Times, point: Point, place: dict[str, Scalar]) -> Iterator[Measurement]:
    n = point.batch * point.target
    yield Measurement(f"{name}first_token_seconds", times.first, "seconds", point.batch, {**place})
    each = (times.whole - times.first) / (point.target - 1)
    yield Measurement(f"{name}inter_token_seconds", each, "seconds", point.target - 1, {**place})
    yield Measurement(f"{name}translation_tokens_per_second", n / times.whole, "tokens/s", n, {**place})


def peak_bytes(model: Model, point: Point) -> int:
    """Most bytes of tensors at once while a translation is made, its state among them, weights not.

    Over reading the source and the first two steps, with the state's whole room: later steps take no more.
    """
    translations = Translations(model, point)

    def begin() -> None:
        tokens_B, state = translations.start()
        translations.go_on(tokens_B, state, min(2, point.target - 1))

    return allocated_at_most(begin, translations.device)
