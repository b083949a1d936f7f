"""Recall: how many answers a model gives right, by number of key-value pairs and under every control."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ripstop.batch import TokenBatch
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation import controls
from ripstop.models.base import Model
from ripstop.records import Measurement


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
    return correct / total, total


def recall_curve(model: Model, config: MqarConfig, data: Path, names: Sequence[str], batch_size: int) -> Iterator[Measurement]:
    """Accuracy for every tested number of pairs, under each of the controls `names`; and that of guessing a value."""
    for num_pairs in config.test_pairs:
        for name in names:
            batches = config.test_batches(data, num_pairs, batch_size)
            applied = (controls.apply(name, batch, seed) for seed, batch in enumerate(batches))
            value, n = accuracy(model, applied)
            yield Measurement("accuracy", value, "fraction", n, {"num_pairs": num_pairs, "control": name})
    yield Measurement("chance", 1 / config.n_values, "fraction", 1)
