"""What a decoded token costs in bytes: those that its step reads of the past, counted on the tensors that it is handed, those
that the state holds, and those that reading the prompt takes at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, field_validator

from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.evaluation.prompts import Context, Prompts, prompt_flops, rising, tokens_of
from ripstop.evaluation.tensor_memory import allocated_at_most
from ripstop.kernels import reads
from ripstop.mixers.base import filled_bytes, held_bytes
from ripstop.models.base import Model, ModelConfig
from ripstop.models.past import past
from ripstop.models.reading import decoder, read_bytes, step_parameters
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Dtype = Literal["float32", "bfloat16"]


class DecodeBytesConfig(PartConfig):
    """Bytes read, written and held by the step of a context's last token, by count and by formula.

    contexts: tokens that the step looks back on, its own among them; of a model with a source, half are of that.
    dtype: of weights and activations. prompts: those whose memory is measured.
    """

    kind: Literal["decode_bytes"] = "decode_bytes"
    group: ClassVar[Group] = "efficiency"
    contexts: list[Context] = Field(min_length=1)
    dtype: Dtype = "float32"
    prompts: Prompts

    @field_validator("contexts")
    @classmethod
    def _rising(cls, contexts: list[int]) -> list[int]:
        return rising(contexts)

    def check(self, run: Run) -> None:
        decoder(run.model)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        config, vocab_size = subject.run.model, subject.run.data.vocab_size(subject.data)
        model = subject.model().to(DTYPES[self.dtype])
        for context in self.contexts:
            yield from step_bytes(model, config, context)
        yield Measurement("weight_bytes", step_parameters(config, vocab_size) * DTYPES[self.dtype].itemsize, "bytes", 1)
        affordable = self.prompts.affordable(config, vocab_size)
        for context in self.prompts.contexts:
            place = {"context": context}
            yield Measurement("prompt_flops", prompt_flops(config, vocab_size, context), "flops", 1, {**place})
            if context in affordable:
                yield Measurement("prompt_peak_bytes", prompt_peak(model, config, context), "bytes", 1, {**place})


def step_bytes(model: Model, config: ModelConfig, context: int) -> Iterator[Measurement]:
    """One step of one sequence, of which only the past is counted, not the weights.

    tokens_read: keys that its layers attend to, all layers together; state_bytes: the state after it, with room for no more.
    """
    weight, place = next(model.parameters()), {"context": context}
    own, source = tokens_of(context, config)
    state = past(model, own - 1, n_source=source)
    with reads.counting() as counted:
        _, state = model.step(torch.zeros(1, dtype=torch.int64, device=weight.device), state)
    values = {
        "bytes_read": counted.bytes,
        "bytes_read_formula": read_bytes(config, own, weight.dtype, source),
        "bytes_written": counted.written,
        "state_bytes": held_bytes(state),
        "state_bytes_filled": filled_bytes(state),
        "state_bytes_formula": config.state_bytes(own, weight.dtype, source),
    }
    for metric, value in values.items():
        yield Measurement(metric, value, "bytes", 1, {**place})
    yield Measurement("tokens_read", counted.tokens, "tokens", 1, {**place})
    for name, branch in counted.branches.items():
        yield Measurement("branch_bytes_read", branch.bytes, "bytes", 1, {**place, "branch": name})
        yield Measurement("branch_tokens_read", branch.tokens, "tokens", 1, {**place, "branch": name})


def prompt_peak(model: Model, config: ModelConfig, context: int) -> int:
    """Most bytes of tensors at once while a prompt is read, its state among them, weights not."""
    return allocated_at_most(reader(model, config, context), next(model.parameters()).device)


def reader(model: Model, config: ModelConfig, context: int) -> Callable[[], object]:
    """Reads a prompt, its source before it: from nothing to the logits of its last token, and the state."""
    own, source = tokens_of(context, config)
    device = next(model.parameters()).device
    tokens_BT = torch.zeros(1, own, dtype=torch.int64, device=device)
    source_BS = None if source is None else torch.zeros(1, source, dtype=torch.int64, device=device)
    return lambda: model.prefill(tokens_BT, model.init_state(1, own, source_BS))
