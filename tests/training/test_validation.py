"""The held-out loss is what arithmetic says, leaves no trace in the training, and tells the best model."""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training.tiny import VOCAB, TinyModel, TinyStream, assert_equal, config, rows, trainer, weights

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.training.objectives.base import Loss
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.trainer import Trainer
from ripstop.training.validation import held_out_loss

CPU = torch.device("cpu")


def batches() -> list[TokenBatch]:
    """The same two at every call, with unequal numbers of targets, so that a mean of means would differ."""
    tokens_NBT = torch.randint(VOCAB, (2, 3, 7), generator=torch.Generator().manual_seed(7))
    targets_NBT = (tokens_NBT * 5 + 3) % VOCAB
    targets_NBT[1, 1:] = IGNORE
    return [TokenBatch(*pair) for pair in zip(tokens_NBT, targets_NBT, strict=True)]


def with_accuracy(model: TinyModel, batch: TokenBatch) -> Loss:
    right_N = model(batch)[batch.asked_BT].argmax(-1) == batch.targets_BT[batch.asked_BT]
    return cross_entropy(model, batch)._replace(metrics={"accuracy": right_N.float().mean()})


def test_equals_the_mean_over_all_targets_by_hand():
    model = TinyModel(dropout=0.5).double()
    loss, metrics, n = held_out_loss(model, with_accuracy, batches(), CPU, "fp32")
    model.eval()
    costs, right = [], []
    for batch in batches():
        for row, targets in zip(model(batch).log_softmax(-1).tolist(), batch.targets_BT.tolist(), strict=True):
            for logs, target in zip(row, targets, strict=True):
                if target != IGNORE:
                    costs.append(-logs[target])
                    right.append(logs.index(max(logs)) == target)
    assert loss == pytest.approx(sum(costs) / len(costs), rel=1e-9)
    assert metrics == {"accuracy": pytest.approx(sum(right) / len(right))}
    assert n == len(right) == 28  # 3 rows of 7, and one of 7


def test_modes_random_states_and_gradients_stay_as_they_were():
    def drawing(model: TinyModel, batch: TokenBatch) -> Loss:
        torch.rand(3), random.random()
        assert not torch.is_grad_enabled() and not any(m.training for m in model.modules())
        return cross_entropy(model, batch)

    model = TinyModel().train()
    model.layers[0].eval()  # as a frozen part would be
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate()
    held_out_loss(model, drawing, batches(), CPU, "fp32")
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert all(p.grad is None for p in model.parameters())


def test_no_target_is_told():
    empty = batches()[0]
    empty.targets_BT[:] = IGNORE
    with pytest.raises(ConfigError, match="held-out batches have no target"):
        held_out_loss(TinyModel(), cross_entropy, [empty], CPU, "fp32")


def test_rows_hold_the_loss_of_the_model_at_that_step_and_training_keeps_its_bits(tmp_path: Path):
    alone = trainer(tmp_path / "alone", objective=with_accuracy)
    alone.fit()
    watched = trainer(tmp_path / "watched", validate_every=5, validation=batches, objective=with_accuracy)
    watched.fit()
    assert_equal(weights(watched), weights(alone))
    found = {row["step"]: row["validation_loss"] for row in rows(tmp_path / "watched") if "validation_loss" in row}
    assert sorted(found) == [5, 10, 15, 20, 24]
    assert all({"accuracy", "validation_accuracy"} <= row.keys() for row in rows(tmp_path / "watched") if row["step"] in found)
    by_hand = trainer(tmp_path / "hand", objective=with_accuracy)
    by_hand._start()
    while by_hand.step < 24:
        by_hand._update()
        if by_hand.step in found:
            assert found[by_hand.step] == held_out_loss(by_hand.model, cross_entropy, batches(), CPU, "fp32")[0]


def test_every_validation_is_in_the_summary_with_its_targets(tmp_path: Path):
    training = trainer(tmp_path, validate_every=5, validation=batches)
    found = training.fit()["validation"]
    assert [list(row) for row in found] == [["step", "n", "loss", "accuracy"]] * 5
    assert [(row["step"], row["n"]) for row in found] == [(step, 28) for step in (5, 10, 15, 20, 24)]
    reported = {row["step"]: row for row in rows(tmp_path) if "validation_loss" in row}
    assert [row["loss"] for row in found] == [reported[row["step"]]["validation_loss"] for row in found]
    assert [row["accuracy"] for row in found] == [reported[row["step"]]["validation_accuracy"] for row in found]
    assert len({row["loss"] for row in found}) == 5
    assert trainer(tmp_path / "without").fit()["validation"] == []


@pytest.mark.parametrize("at", [4, 11, 15, 23])
def test_validations_before_a_stop_are_in_the_summary_once(tmp_path: Path, at: int):
    """Stopped after step 5, 12, 16 and 24 of 24 + 1, of which step 5 was just measured."""

    class Interrupting(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    told = {"validate_every": 5, "validation": batches, "steps": 25}
    straight = trainer(tmp_path / "straight", **told).fit()
    stopped = trainer(tmp_path / "stopped", **told)
    stopped.stream = Interrupting(5)
    with pytest.raises(SystemExit):
        stopped.fit()
    resumed = trainer(tmp_path / "stopped", **told).fit()
    assert resumed["resumed_at"] == at + 1
    assert resumed["validation"] == straight["validation"] and len(straight["validation"]) == 5


def test_a_state_holds_its_own_rows(tmp_path: Path):
    """What is measured later does not get into a state that was taken before."""
    training = trainer(tmp_path / "one", validate_every=5, validation=batches, steps=5)
    training.fit()
    state = training.state_dict()
    training._validate()
    assert [row["step"] for row in state["held_out"]] == [5] and len(training._held_out) == 2
    other = trainer(tmp_path / "two", validate_every=5, validation=batches, steps=5)
    other.load_state_dict(state)
    other._validate()
    assert [row["step"] for row in state["held_out"]] == [5] and len(other._held_out) == 2


class Misleading:
    """Held-out targets that the training unlearns: their loss falls while the logits lose their noise, then rises."""

    def __call__(self) -> Iterator[TokenBatch]:
        for batch in batches():
            wrong_BT = (batch.tokens_BT * 5 + 4) % VOCAB
            yield TokenBatch(batch.tokens_BT, wrong_BT.where(batch.asked_BT, torch.tensor(IGNORE)))


def best_of(out: Path, **changes: object) -> Trainer:
    settings = {"steps": 60, "validate_every": 3, "keep": "best", "validation": Misleading(), "lr": 0.05, "min_lr_ratio": 1.0}
    torch.manual_seed(3)
    return trainer(out, TinyModel(dropout=0.0), **(settings | changes))


@pytest.mark.parametrize("recomputing", [False, True])
def test_the_best_is_kept(tmp_path: Path, recomputing: bool):
    training = best_of(tmp_path, activation_checkpointing=recomputing)
    summary = training.fit()
    found = {row["step"]: row["validation_loss"] for row in rows(tmp_path) if "validation_loss" in row}
    best = min(found, key=found.__getitem__)
    assert best not in (3, 60) and found[best] < found[60]
    assert summary["kept"] == {"which": "best", "step": best, "validation_loss": found[best]}
    assert held_out_loss(training.model, cross_entropy, Misleading()(), CPU, "fp32")[0] == found[best]
    stopped = best_of(tmp_path / "other", keep="last")
    stopped.fit()
    assert stopped.kept == {"which": "last", "step": 60}
    assert held_out_loss(stopped.model, cross_entropy, Misleading()(), CPU, "fp32")[0] == found[60]


def test_the_best_survives_a_stop_bit_for_bit(tmp_path: Path):
    straight = best_of(tmp_path / "straight")
    straight.fit()
    best = straight.kept["step"]

    class Interrupting(TinyStream):
        def __next__(self) -> TokenBatch:
            if self.position == best + 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    stopped = best_of(tmp_path / "stopped")
    stopped.stream = Interrupting(5)
    with pytest.raises(SystemExit):
        stopped.fit()
    resumed = best_of(tmp_path / "stopped")
    assert resumed.fit()["resumed_at"] == best + 5 and resumed.kept == straight.kept
    assert_equal(weights(resumed), weights(straight))


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path: Path):
    def never_finite_in_evaluation(model: TinyModel, batch: TokenBatch) -> Loss:
        loss = cross_entropy(model, batch)
        return loss if model.training else loss._replace(sum=loss.sum * math.nan)

    training = best_of(tmp_path, objective=never_finite_in_evaluation, steps=6)
    summary = training.fit()
    assert summary["kept"] == {"which": "last", "step": 6}
    assert [(row["step"], row["loss"]) for row in summary["validation"]] == [(3, None), (6, None)]
    assert all(row["accuracy"] is not None for row in summary["validation"])
    assert [row["validation_loss"] for row in rows(tmp_path) if "validation_loss" in row] == [None, None]


def test_best_needs_a_measurement(tmp_path: Path):
    with pytest.raises(ValueError, match="keep: best needs validate_every above 0"):
        config(keep="best")
    with pytest.raises(ConfigError, match="validate_every: the data has no held-out batches"):
        trainer(tmp_path, validate_every=3)


def test_bf16_reaches_the_held_out_batches():
    seen: list[torch.dtype] = []

    def looking(model: TinyModel, batch: TokenBatch) -> Loss:
        logits_BTV: Tensor = model(batch)
        seen.append(logits_BTV.dtype)
        return cross_entropy(model, batch)

    held_out_loss(TinyModel(), looking, batches(), CPU, "bf16")
    assert seen == [torch.bfloat16] * 2
