"""What a model's memory of the past weighs, counted on the tensors of its real state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from ripstop.data.base import RowLength
from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.mixers.base import filled_bytes, held_bytes
from ripstop.models.base import Model, ModelConfig
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class StateSizeConfig(PartConfig):
    """Bytes of state that one sequence holds, counted: allocated, filled, and by the analytic formula beside both."""

    kind: Literal["state_size"] = "state_size"
    group: ClassVar[Group] = "efficiency"
    seq_len: int | None = Field(
        None, ge=1, le=2**24, description="tokens read before, and as many of the source; none given: the data's longest row"
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield from state_size(subject.model(), subject.run.model, self._row(subject.run))

    def _row(self, run: Run) -> RowLength:
        longest = run.data.longest_row
        if self.seq_len is None:
            return longest
        return RowLength(self.seq_len, None if longest.source is None else self.seq_len)


def state_size(model: Model, config: ModelConfig, row: RowLength) -> Iterator[Measurement]:
    """The state after `row.tokens` tokens (and a source of `row.source`), with room for no more."""
    weight = next(model.parameters())
    tokens_BT = torch.zeros(1, row.tokens, dtype=torch.int64, device=weight.device)
    size: dict[str, int] = {"seq_len": row.tokens}
    source_BS = None
    if config.reads_source:
        size["source_len"] = row.tokens if row.source is None else row.source
        source_BS = torch.zeros(1, size["source_len"], dtype=torch.int64, device=weight.device)
    state = model.init_state(1, row.tokens, source_BS)
    formula = config.state_bytes(row.tokens, weight.dtype, size.get("source_len"))
    _, state = model.prefill(tokens_BT, state)
    yield Measurement("state_bytes", held_bytes(state), "bytes", 1, {**size})
    yield Measurement("state_bytes_filled", filled_bytes(state), "bytes", 1, {**size})
    yield Measurement("state_bytes_formula", formula, "bytes", 1, {**size})
