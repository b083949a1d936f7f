"""What teaches is added in training alone; gates are told, and a branch that is dead."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from training import tiny
from training.tiny import VOCAB, TinyModel, TinyStream

from ripstop.batch import Vocabulary
from ripstop.mixers.nsa import NativeSparseAttention
from ripstop.mixers.nsa.trace import BRANCHES, tracing
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.training.objectives import OBJECTIVES
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.objectives.taught_selection import EVERY, TaughtSelectionConfig

NAMES = {"accuracy", "gate_compressed", "gate_selected", "gate_window", "gates_collapsed", "teaching_loss"}


def sparse(pattern: str = "NN", **changes: Any) -> Model:
    mixer: dict[str, Any] = {
        "kind": "nsa", "n_heads": 2, "rope": [], "compress_block": 2, "compress_stride": 1, "select_block": 2, "n_selected": 2,
        "n_first": 0, "n_local": 1, "window_size": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    values = {"d_model": 8, "pattern": pattern, "mixers": {"N": mixer | changes, "A": {"kind": "attention", "n_heads": 2}}}
    return DecoderOnlyConfig.parse(values, "model").build(Vocabulary(VOCAB)).train()


def nsa(model: Model) -> list[NativeSparseAttention]:
    return [module for module in model.modules() if isinstance(module, NativeSparseAttention)]


def test_without_sparse_attention_it_is_the_cross_entropy() -> None:
    model, batch = TinyModel(dropout=0.0), next(TinyStream(1))
    found, plain = TaughtSelectionConfig().build()(model, batch), cross_entropy(model, batch)
    assert torch.equal(found.sum, plain.sum) and found.n == plain.n and set(found.metrics) == {"accuracy"}


def test_what_teaches_is_added_for_each_target_in_training_alone() -> None:
    model, batch = sparse(teaching={"kind": "indexer", "weight": 3.0}), next(TinyStream(1))
    with tracing() as trace:
        plain = cross_entropy(model, batch)
    taught = sum(layer.teaching_loss for layer in trace.layers if layer.teaching_loss is not None)
    assert isinstance(taught, torch.Tensor) and taught > 0 and len(trace.layers) == 2
    objective = TaughtSelectionConfig().build()
    found = objective(model, batch)
    assert found.sum.item() == pytest.approx((plain.sum + plain.n * taught).item(), rel=1e-5)
    assert found.metrics["teaching_loss"].item() == pytest.approx(taught.item(), rel=1e-5)
    assert found.n == plain.n and not found.metrics["teaching_loss"].requires_grad
    (found.sum - plain.sum).backward()
    assert all(bool(mixer.qkv_proj.weight.grad.any()) for mixer in nsa(model))
    held_out = objective(model.eval(), batch)
    assert held_out.sum.item() == pytest.approx(plain.sum.item(), rel=1e-6)


def test_what_teaches_outside_of_training_is_not_added() -> None:
    """Whatever a way of teaching hands on: held-out losses of all ways compare."""
    model, batch = sparse(teaching={"kind": "indexer"}).eval(), next(TinyStream(1))
    plain = cross_entropy(model, batch)

    class Always:
        def attend(self, selection: Any, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
            return selection.sparse(), torch.ones(())

    for mixer in nsa(model):
        mixer.teaching = Always()  # type: ignore[assignment]
    found = TaughtSelectionConfig().build()(model, batch)
    assert found.sum.item() == pytest.approx(plain.sum.item(), rel=1e-6) and found.metrics["teaching_loss"].item() == 2


@pytest.mark.parametrize("kind", ["none", "branch_dropout", "alternate", "indexer", "score_weighted"])
def test_the_names_are_the_same_at_every_step(kind: str) -> None:
    model, objective, stream = sparse(teaching={"kind": kind}), TaughtSelectionConfig().build(), TinyStream(1)
    for step in range(6):
        loss = objective(model.train(step % 3 > 0), next(stream))
        assert set(loss.metrics) == NAMES and all(value.ndim == 0 for value in loss.metrics.values())
        loss.sum.backward()


def test_gates_are_means_over_layers_and_the_dead_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model, batch = sparse(), next(TinyStream(1))
    first, second = nsa(model)
    with torch.no_grad():  # two heads of three branches each: a bias of 0 is a gate of 1/2
        first.gate_out.bias.view(2, 3)[:] = torch.tensor([-5.0, 0.0, 5.0])
        second.gate_out.bias.view(2, 3)[:] = torch.tensor([0.0, 0.0, -5.0])
    objective = TaughtSelectionConfig(collapsed=0.01).build()
    low, high = 1 / (1 + torch.e**5), 1 / (1 + torch.e**-5)
    with caplog.at_level(logging.WARNING):
        for _ in range(EVERY - 1):
            found = objective(model, batch)
        assert not caplog.records
        objective(model, batch)
        told = [record.getMessage() for record in caplog.records]
        for _ in range(2 * EVERY):
            objective(model, batch)
    gates = [found.metrics[f"gate_{branch}"].item() for branch in BRANCHES]
    assert gates == pytest.approx([(low + 0.5) / 2, 0.5, (high + low) / 2], rel=1e-5)
    assert found.metrics["gates_collapsed"].item() == 3
    assert [record.getMessage() for record in caplog.records] == told and len(told) == 3
    assert told[0].startswith("sparse attention 0: the mean gate of its compressed branch is 0.00669, which has collapsed")
    assert TaughtSelectionConfig(collapsed=0.005).build()(model, batch).metrics["gates_collapsed"].item() == 0


def test_the_heartbeat_has_the_gates(tmp_path: Any) -> None:
    objective = OBJECTIVES.parse({"kind": "taught_selection"})
    assert isinstance(objective, TaughtSelectionConfig)
    tiny.trainer(tmp_path, sparse(), steps=8, objective=objective.build()).fit()
    rows = tiny.rows(tmp_path)
    assert [row["step"] for row in rows] == [4, 8]
    assert all(row.keys() >= NAMES for row in rows) and 0.3 < rows[0]["gate_window"] < 0.7
