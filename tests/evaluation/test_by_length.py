"""Accuracy by length of models whose answers are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.data.word_problem import WordProblemConfig
from ripstop.evaluation.by_length import ByLengthConfig
from ripstop.models.base import Model

PARITY = WordProblemConfig(n_things=2, lengths=[4, 8], test_lengths=[8, 16, 32], n_test=40)


class Counts(Model):
    """Parity of the first `reach` tokens that it reads: right up to that length, and luck beyond."""

    def __init__(self, reach: int):
        super().__init__()
        self.reach = reach
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        swaps_BT = (batch.tokens_BT == 6).long()
        swaps_BT[:, 1 + self.reach :] = 0
        logits = nn.functional.one_hot(5 + swaps_BT.cumsum(1) % 2, 7).float()
        return logits if at_BT is None else logits[at_BT]


def measured(tmp_path: Path, model: Model, part: ByLengthConfig) -> dict[tuple, tuple[float, int]]:
    PARITY.prepare(tmp_path)
    subject = SimpleNamespace(run=SimpleNamespace(data=PARITY), data=tmp_path, model=lambda: model)
    found = {}
    for m in part.measure(subject):  # type: ignore[arg-type]
        found[m.metric, *m.slice.values()] = (m.value, m.n)
        assert m.unit == "fraction"
    return found


def test_accuracy_by_length_and_control(tmp_path: Path) -> None:
    found = measured(tmp_path, Counts(reach=16), ByLengthConfig(batch_size=16))
    expected = {("accuracy", length, times, c) for length, times in ((8, 1), (16, 2), (32, 4)) for c in CONTROLS}
    assert set(found) == expected | {("chance",)}
    assert found["chance",] == (0.5, 1)
    for length, times in ((8, 1), (16, 2)):
        assert found["accuracy", length, times, "own"] == (1.0, 40)
        assert found["accuracy", length, times, "shuffled"] == (1.0, 40)  # order does not move a parity
        assert 0.2 < found["accuracy", length, times, "wrong"][0] < 0.8
    assert 0.2 < found["accuracy", 32, 4, "own"][0] < 0.8
    # Without a swap to read, the answer is that of an even number.
    batches = list(PARITY.test_batches(tmp_path, 8, 40))
    assert found["accuracy", 8, 1, "zero"][0] == float((batches[0].targets_BT[:, -1] == 5).double().mean())


CONTROLS = ("own", "zero", "shuffled", "wrong")


def test_only_the_controls_that_are_asked_for(tmp_path: Path) -> None:
    found = measured(tmp_path, Counts(reach=4), ByLengthConfig(controls=["own"]))
    assert {slice_[-1] for metric, *slice_ in found if metric == "accuracy"} == {"own"}
    assert found["accuracy", 8, 1, "own"][0] < 1


def test_data_without_lengths_is_refused() -> None:
    run = SimpleNamespace(data=MqarConfig(num_pairs=[2]))
    with pytest.raises(ConfigError, match="the run's data is mqar; remove this part"):
        ByLengthConfig().check(run)  # type: ignore[arg-type]
