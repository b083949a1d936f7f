"""A training that diverges stops the workflow, or is an outcome with the last parameters that gave a finite loss."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny import TinyModel, TinyStream, assert_equal, rows, trainer, weights

from ripstop.batch import TokenBatch
from ripstop.config import TrainingError
from ripstop.training.objectives.base import Loss
from ripstop.training.objectives.cross_entropy import cross_entropy


class Poisoning:
    """Cross-entropy whose value, or else whose gradient, is no number from the call after the first `good` ones on."""

    def __init__(self, good: int, gradient_only: bool = False):
        self.good, self.gradient_only, self.calls = good, gradient_only, 0

    def __call__(self, model: TinyModel, batch: TokenBatch) -> Loss:
        self.calls += 1
        loss = cross_entropy(model, batch)
        if self.calls <= self.good:
            return loss
        if self.gradient_only:
            return loss._replace(sum=loss.sum + (loss.sum - loss.sum.detach()).clamp(min=0).sqrt())  # slope inf at 0
        return loss._replace(sum=loss.sum * float("nan"))


def parameters_after(out: Path, updates: int) -> dict[str, torch.Tensor]:
    training = trainer(out)
    training._start()
    for _ in range(updates):
        training._update()
    return weights(training)


@pytest.mark.parametrize("gradient_only", [False, True])
def test_recorded_it_keeps_the_parameters_of_the_last_finite_loss(tmp_path: Path, gradient_only: bool):
    training = trainer(tmp_path / "a", objective=Poisoning(9, gradient_only), on_divergence="record")
    summary = training.fit()
    assert (summary["outcome"], summary["diverged_at"], summary["last_finite_step"], summary["steps"]) == ("diverged", 10, 9, 9)
    assert summary["kept"] == {"which": "last finite", "step": 8}
    assert_equal(weights(training), parameters_after(tmp_path / "b", 8))
    assert [row["step"] for row in rows(tmp_path / "a")] == [4, 8, 9]
    assert summary["last_finite_loss"] == summary["loss"] == rows(tmp_path / "a")[-1]["loss"]
    # and that loss is the one which these parameters give on the batch of step 9
    again = trainer(tmp_path / "c", log_every=1)
    again.fit()
    assert rows(tmp_path / "c")[8]["loss"] == summary["last_finite_loss"]


def test_recorded_at_the_first_step_it_keeps_what_was_drawn(tmp_path: Path):
    training = trainer(tmp_path, objective=Poisoning(0), on_divergence="record")
    drawn = weights(training)
    summary = training.fit()
    assert (summary["diverged_at"], summary["last_finite_loss"], summary["loss"], summary["steps"]) == (1, None, None, 0)
    assert summary["kept"] == {"which": "last finite", "step": 0}
    assert_equal(weights(training), drawn)


def test_recorded_after_a_stop_it_is_the_same(tmp_path: Path):
    class Interrupting(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    straight = trainer(tmp_path / "straight", objective=Poisoning(9), on_divergence="record")
    expected = straight.fit()
    stopped = trainer(tmp_path / "stopped", on_divergence="record")
    stopped.stream = Interrupting(5)
    with pytest.raises(SystemExit):
        stopped.fit()
    resumed = trainer(tmp_path / "stopped", objective=Poisoning(0), on_divergence="record")
    found = resumed.fit()
    same = ("outcome", "steps", "loss", "diverged_at", "last_finite_step", "last_finite_loss", "kept")
    assert found["resumed_at"] == 9 and [found[key] for key in same] == [expected[key] for key in same]
    assert_equal(weights(resumed), weights(straight))


def test_recorded_or_not_a_training_that_stays_finite_has_the_same_bits(tmp_path: Path):
    trainings = [trainer(tmp_path / told, on_divergence=told) for told in ("fail", "record")]
    outcomes = [training.fit()["outcome"] for training in trainings]
    assert outcomes == ["finished"] * 2
    assert_equal(*map(weights, trainings))


EXPLODING: dict[str, Any] = {"lr": 1e38, "warmup": 0.0, "clip": 0.0, "checkpoint_every": 24}


def test_a_learning_rate_that_explodes_is_told(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) .*no checkpoint before it; lower training.lr"):
        trainer(tmp_path, **EXPLODING).fit()


def test_a_learning_rate_that_explodes_is_recorded(tmp_path: Path):
    training = trainer(tmp_path, on_divergence="record", **EXPLODING)
    assert training.fit()["outcome"] == "diverged"
    assert all(value.isfinite().all() for value in weights(training).values())


def test_not_a_number_stops_the_run_and_names_the_last_good_checkpoint(tmp_path: Path):
    training = trainer(tmp_path, objective=Poisoning(12))
    with pytest.raises(TrainingError, match=r"step 13: the loss is nan .* last good checkpoint is .*step-00000010-"):
        training.fit()
    for path in (tmp_path / "checkpoints").iterdir():
        assert torch.load(path, weights_only=True)["state"]["model"]["embedding.weight"].isfinite().all()
    assert [row["step"] for row in rows(tmp_path)] == [4, 8, 12]


def test_the_best_is_kept_before_a_divergence(tmp_path: Path):
    validation = [next(TinyStream(9))]
    poison = Poisoning(12 + 3)  # updates, and validations of one batch
    told = {"on_divergence": "record", "keep": "best", "validate_every": 4}
    training = trainer(tmp_path, objective=poison, validation=lambda: validation, **told)
    summary = training.fit()
    assert (summary["outcome"], summary["diverged_at"], summary["kept"]["which"]) == ("diverged", 13, "best")
    found = {row["step"]: row["validation_loss"] for row in rows(tmp_path) if "validation_loss" in row}
    assert summary["kept"]["validation_loss"] == min(found.values()) == found[summary["kept"]["step"]]
