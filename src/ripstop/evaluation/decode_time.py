"""How long a decoded token takes, and the reading of a prompt: in turns with one reference model in the same process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.evaluation.decode_bytes import DTYPES, Dtype, reader
from ripstop.evaluation.prompts import Context, Prompts, rising, tokens_of
from ripstop.models import MODELS
from ripstop.models.base import Model, ModelConfig
from ripstop.models.past import past
from ripstop.models.reading import decoder
from ripstop.records import Measurement
from ripstop.training.randomness import seed_everything

if TYPE_CHECKING:
    from ripstop.runs import Run


class DecodeTimeConfig(PartConfig):
    """Seconds of a step after each context, and of each prompt; every turn of the model has one of `reference` beside it.

    Times of two processes differ by what else their machine did. Those of one process that take turns differ by the models,
    so that what is compared is the ratio of model and reference, turn by turn.

    contexts: as in `decode_bytes`; the first timed step is that of its last token. dtype: of weights and activations.
    reference: a model that reads no source, built for `reference_ids` token ids; the same in all runs of a study.
    """

    kind: Literal["decode_time"] = "decode_time"
    group: ClassVar[Group] = "efficiency"
    exclusive: bool = True
    contexts: list[Context] = Field(min_length=1)
    prompts: Prompts
    dtype: Dtype = "float32"
    n_turns: int = Field(12, ge=1, le=10**4, description="of steps at each context, after one that is not recorded")
    steps_per_turn: int = Field(3, ge=1, le=10**4, description="whose mean is taken")
    prompt_turns: int = Field(6, ge=1, le=10**4, description="of each prompt, after one that is not recorded")
    reference: Annotated[ModelConfig, MODELS] | None = Field(None, description="none given: the study's")
    reference_ids: int = Field(256, ge=1, le=2**20)

    @field_validator("contexts")
    @classmethod
    def _rising(cls, contexts: list[int]) -> list[int]:
        return rising(contexts)

    def check(self, run: Run) -> None:
        decoder(run.model)
        if self.reference is None:
            raise ConfigError("reference: there is none to take turns with; give it a model")
        decoder(self.reference)
        if self.reference.reads_source:
            raise ConfigError(f"reference: a model of kind {self.reference.kind} reads a source; take one that reads none")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        assert self.reference is not None
        seed_everything(subject.run.seed)
        config, vocab_size = subject.run.model, subject.run.data.vocab_size(subject.data)
        dtype = DTYPES[self.dtype]
        model = subject.model().to(dtype)
        reference = self.reference.build(Vocabulary(self.reference_ids)).to(subject.device, dtype).eval()
        both = [(model, config), (reference, self.reference)]
        for context in self.contexts:
            steps = [Steps(*one, context, self) for one in both]
            yield from turns("step_seconds", context, steps, self.n_turns, self.steps_per_turn, subject.device)
            del steps  # before the next, longer ones are made
        for context in self.prompts.affordable(config, vocab_size):
            readers = [reader(*one, context) for one in both]
            yield from turns("prompt_seconds", context, readers, self.prompt_turns, 1, subject.device)


class Steps:
    """Steps one after the other, from a context on that nothing has read."""

    def __init__(self, model: Model, config: ModelConfig, context: int, settings: DecodeTimeConfig):
        own, source = tokens_of(context, config)
        n_steps = (settings.n_turns + 1) * (settings.steps_per_turn + 1)  # as `turns` asks for
        self.model = model
        self.state: Any = past(model, own - 1, n_steps, source)
        self.tokens_B: Tensor = torch.zeros(1, dtype=torch.int64, device=next(model.parameters()).device)

    def __call__(self) -> None:
        _, self.state = self.model.step(self.tokens_B, self.state)


def turns(
    metric: str, context: int, both: Sequence[Callable[[], object]], n_turns: int, n_calls: int, device: torch.device
) -> Iterator[Measurement]:
    """Seconds of a call, of the model's and of the reference's, the first and the second of `both`.

    Who begins changes from turn to turn. A turn before the others is not recorded, and of several calls in a turn neither is
    a first one, which finds what the other model left in the caches.
    """
    names = (metric, f"reference_{metric}")
    with _undisturbed():
        for turn in range(n_turns + 1):
            for which in (0, 1) if turn % 2 else (1, 0):
                if n_calls > 1:
                    both[which]()
                seconds = _timed(both[which], n_calls, device)
                if turn:
                    yield Measurement(names[which], seconds, "seconds", n_calls, {"context": context, "turn": turn})


def _timed(call: Callable[[], object], n_calls: int, device: torch.device) -> float:
    """Mean over `n_calls`."""
    _wait(device)
    begin = time.perf_counter()
    for _ in range(n_calls):
        call()
    _wait(device)
    return (time.perf_counter() - begin) / n_calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without collections of garbage, which stop whoever allocates next."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
