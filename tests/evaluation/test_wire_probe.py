"""The probe of wires: areas by hand, a signal that is found, and directions that are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.asked_runs import built, prepared

from ripstop.evaluation.answers import wires
from ripstop.evaluation.wire_probe import WireProbeConfig, area_under_roc, middling_words, present, probe, spectrum

RANDOM = np.random.default_rng(0)


def test_the_area_is_the_chance_to_rank_right() -> None:
    assert area_under_roc(np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0])) == 1.0
    assert area_under_roc(np.array([1.0, 2.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(1.5 / 3)
    assert area_under_roc(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == 0.5


def test_a_direction_that_tells_is_found_and_none_where_there_is_none() -> None:
    z, z_test = RANDOM.standard_normal((200, 300)), RANDOM.standard_normal((100, 300))
    direction = RANDOM.standard_normal(300)
    labels, labels_test = ((x @ direction > 0)[:, None].astype(float) for x in (z, z_test))
    (found,) = probe(z, labels, z_test, labels_test, 0.1)
    assert found > 0.7
    (chance,) = probe(z, labels, np.roll(z_test, 1, axis=0), labels_test, 0.1)
    assert abs(chance - 0.5) < 0.15
    assert probe(z, labels, z_test, np.ones_like(labels_test), 0.1) == []


def test_it_is_ridge_regression() -> None:
    """By the kernel as by the covariance of what is standardised."""
    z, labels = RANDOM.standard_normal((30, 5)) * 3 + 1, RANDOM.integers(0, 2, (30, 1)).astype(float)
    x = (z - z.mean(0)) / (z.std(0) + 1e-8)
    weights = np.linalg.solve(x.T @ x + 2.0 * 5 * np.eye(5), x.T @ (labels - labels.mean(0)))
    expected = area_under_roc((x @ weights)[:, 0], labels[:, 0])
    assert probe(z, labels, z, labels, 2.0) == [pytest.approx(expected)]


def test_directions_are_counted() -> None:
    z = RANDOM.standard_normal((400, 3)) @ np.eye(3, 20)
    assert {m.slice["explained"]: m.value for m in spectrum(z)} == {0.5: 2, 0.9: 3, 0.99: 3}
    assert list(spectrum(np.ones((5, 4)))) == []


def test_words_that_half_of_the_documents_have() -> None:
    documents = ["The cat sat", "the dog sat", "a cat ran", "the bird flew"]
    assert middling_words(documents, 3, 0.3) == ["cat", "sat"]  # "the" stands in three of four
    assert middling_words(documents, 1, 0.2) == ["cat"]
    assert present(documents, ["cat", "sat"]).tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]


@torch.inference_mode()
def test_it_is_fitted_on_documents_to_train_on_and_scored_with_their_own_and_with_others_wires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = prepared(tmp_path)
    made = given.measured(WireProbeConfig(n_documents=20, n_words=40, ridge=2.0), tmp_path / "out")
    found = {m.slice["wire"]: (m.value, m.n) for m in made if m.metric == "probe_auc"}
    model, z, documents = built(given), {}, {}
    for split in ("train", "test"):
        one_each = {q.document: q for q in given.data.questions(given.folder, split)}  # type: ignore[arg-type]
        documents[split] = list(one_each)
        z[split] = wires(model, list(one_each.values()), 5).flatten(1).double().numpy()
    words = middling_words(documents["train"], 40, 0.05)
    train, test = present(documents["train"], words), present(documents["test"], words)
    for wire, z_test in (("own", z["test"]), ("wrong", np.roll(z["test"], 1, axis=0))):
        scores = probe(z["train"], train, z_test, test, 2.0)
        assert found[wire] == (pytest.approx(np.mean(scores), abs=0.02), len(scores))
    assert found["own"][0] > found["wrong"][0] + 0.05
    assert {m.n for m in made if m.metric == "wire_directions"} == {20}
