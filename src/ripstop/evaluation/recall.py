"""Recall: how many answers a model gives right, by number of key-value pairs and under every control."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.controls import CONTROLS, Control, applied
from ripstop.models.base import Model
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class RecallConfig(PartConfig):
    """Accuracy on the test set for every number of pairs, under each of `controls`; and that of guessing a value."""

    kind: Literal["recall"] = "recall"
    controls: list[Control] = Field(list(CONTROLS), min_length=1)
    batch_size: int = Field(64, ge=2, description="test examples read at once; the control `wrong` needs another in the batch")

    def check(self, run: Run) -> None:
        mqar_data(run)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        yield from recall_curve(subject.model(), mqar_data(subject.run), subject.data, self.controls, self.batch_size)


def accuracy(model: Model, batches: Iterable[TokenBatch]) -> tuple[float, int]:
    """Fraction of target positions whose most likely token is the target, over the whole vocabulary; and their count."""
    correct = total = 0
    device = next(model.parameters()).device
    for batch in batches:
        batch = batch.to(device)
        asked_BT = batch.asked_BT
        predicted_N = model(batch, asked_BT).argmax(-1)
        correct += int((predicted_N == batch.targets_BT[asked_BT]).sum())
        total += predicted_N.numel()
    if total == 0:
        raise ConfigError("accuracy: no position of the test set has a target; prepare the data again")
    return correct / total, total


def recall_curve(
    model: Model, config: MqarConfig, data: Path, controls: Sequence[Control], batch_size: int
) -> Iterator[Measurement]:
    """Accuracy for every tested number of pairs, under each of `controls`; and that of guessing a value."""
    for num_pairs in config.test_pairs:
        for control in controls:
            value, n = accuracy(model, applied(control, config.test_batches(data, num_pairs, batch_size)))
            yield Measurement("accuracy", value, "fraction", n, {"num_pairs": num_pairs, "control": control})
    yield Measurement("chance", 1 / config.n_values, "fraction", 1)


def mqar_data(run: Run) -> MqarConfig:
    if not isinstance(run.data, MqarConfig):
        raise ConfigError(f"recall is measured on data of kind mqar, and the run's is {run.data.kind}; remove this part")
    return run.data
