"""Likelihood: the loss per target token, teacher-forced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from pydantic import Field

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.controls import Control, applied
from ripstop.models.base import Model
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class LikelihoodConfig(PartConfig):
    """The loss on every row of a held-out split, under each of `controls`."""

    kind: Literal["likelihood"] = "likelihood"
    controls: list[Control] = Field(["own", "shuffled", "wrong"], min_length=1)
    tokens_per_batch: int = Field(8192, ge=1, le=2**22, description="tokens read at once, padding and source included")
    split: Literal["valid", "test"] = "test"

    def check(self, run: Run) -> None:
        if self.split not in run.data.held_out_splits:
            raise ConfigError(f"split {self.split!r}: data of kind {run.data.kind} has no such rows to score; remove this part")
        # Two of the longest rows have to fit where a row needs another one's context.
        rows = 2 if "wrong" in self.controls else 1
        needed = rows * run.data.longest_row.total
        if self.tokens_per_batch < needed:
            raise ConfigError(
                f"tokens_per_batch: {self.tokens_per_batch} does not hold {rows} of the longest rows, which take {needed}; "
                "raise it"
            )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model = subject.model()
        for control in self.controls:
            batches = subject.run.data.held_out(subject.data, self.split, self.tokens_per_batch)
            value, n = loss_per_token(model, applied(control, batches))
            yield Measurement("loss", value, "nats", n, {"control": control, "split": self.split})


def loss_per_token(model: Model, batches: Iterable[TokenBatch]) -> tuple[float, int]:
    """Mean negative log-likelihood in nats over all target positions of all batches (not a mean of batch means)."""
    total, count = 0.0, 0
    device = next(model.parameters()).device
    for batch in batches:
        batch = batch.to(device)
        asked_BT = batch.asked_BT
        logits_NV = model(batch, asked_BT).float()
        total += F.cross_entropy(logits_NV, batch.targets_BT[asked_BT], reduction="sum").item()
        count += int(asked_BT.sum())
    if count == 0:
        raise ConfigError("loss per token: no position of the held-out rows has a target; prepare the data again")
    return total / count, count
