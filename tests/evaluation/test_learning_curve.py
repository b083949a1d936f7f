"""The part learning_curve on a tiny arm that chooses its learning rate: candidates, choice, training, records; and that a
model of another choice is never taken for this one's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluation.test_evaluate import lay_out, run

from ripstop import choices, yaml_file
from ripstop.config import ConfigError
from ripstop.evaluation import PARTS
from ripstop.evaluation.evaluate import evaluate
from ripstop.evaluation.learning_curve import LearningCurveConfig
from ripstop.evaluation.recall import RecallConfig
from ripstop.files import write_text
from ripstop.records import read_records
from ripstop.runs import Run
from ripstop.training.config import TrainingConfig
from ripstop.training.train import train
from ripstop.training.trainer import Trainer

CHOICE = "architecture-attention_conv"
TRAINING = TrainingConfig(steps=6, tokens_per_step=256, lr=1e-2, validate_every=4)
LR = (1e-4, 3e-2, 1e-3)
"""What the candidates try; in six steps the second learns most."""


def following(seed: int = 0, **changes: Any) -> Run:
    """The run of the arm that takes over the choice."""
    parts = {"recall": RecallConfig(controls=["own"]), "learning_curve": LearningCurveConfig()}
    return run(f"seed-{seed}", seed, **({"training": TRAINING, "evaluation": parts, "choice": CHOICE} | changes))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trained candidates, their choice, and one trained run that follows it."""
    root = tmp_path_factory.mktemp("chosen")
    folders = []
    for number, lr in enumerate(LR):
        told = {"training": TRAINING.replace(lr=lr, steps=4), "settings": {"training.lr": lr}, "evaluation": {}}
        folder, data = lay_out(run(f"candidate-{number}", 9, choice=CHOICE, **told), root)
        train(folder, data)
        folders.append(folder)
    choices.choose(folders, root / f"choices/{CHOICE}.json")
    train(*lay_out(following(), root))
    return root


@pytest.fixture
def trained(original: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of them: folder of the run that follows, and the data."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs/seed-0", tmp_path / "data"


def choose_another(folder: Path, lr: float) -> None:
    path = folder.parent.parent / f"choices/{CHOICE}.json"
    choice = json.loads(path.read_text())
    write_text(path, json.dumps(choice | {"settings": {"training.lr": lr}}))


def test_the_records_are_the_validations_and_what_was_chosen(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    records = read_records(evaluate(folder, data, "learning_curve"))
    report = json.loads((folder / "training.json").read_text())
    assert [row["step"] for row in report["validation"]] == [4, 6]
    wanted = [
        (f"held_out_{name}", row[name], unit, row["n"], {"step": row["step"]})
        for row in report["validation"]
        for name, unit in (("loss", "nats"), ("accuracy", "fraction"))
    ]
    wanted.append(("chosen", 3e-2, "setting", 1, {"setting": "training.lr"}))
    for number, lr in enumerate(LR):
        of_candidate = json.loads((folder.parent / f"candidate-{number}/training.json").read_text())
        assert [row["step"] for row in of_candidate["validation"]] == [4]
        loss = of_candidate["validation"][-1]["loss"]
        wanted.append(("candidate_loss", loss, "nats", 1, {"candidate": f"training.lr {lr}"}))
    assert [(r.metric, r.value, r.unit, r.n, r.slice) for r in records] == wanted
    assert {r.part for r in records} == {"learning_curve"}
    assert min(r.value for r in records if r.metric == "candidate_loss") == wanted[-2][1]


def test_training_and_evaluation_have_the_chosen_settings(trained: tuple[Path, Path]) -> None:
    folder, _ = trained
    assert yaml_file.mapping(folder / "config.yaml")["training"]["lr"] == 1e-2, "the plan knows no choice"
    loaded = Run.load(folder, parts=["recall"])
    assert loaded.training == TRAINING.replace(lr=3e-2)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max(row["lr"] for row in rows) > 1e-2, "training used it"
    by_hand = Run.load(folder, ["training.lr=0.5", "training.steps=3"])
    assert by_hand.training == TRAINING.replace(lr=0.5, steps=3), "what is said by hand has the last word"
    choose_another(folder, 1e-4)
    assert Run.load(folder).training == TRAINING.replace(lr=1e-4)


def test_a_candidate_keeps_what_it_tries(trained: tuple[Path, Path]) -> None:
    folder, _ = trained
    losing = Run.load(folder.parent / "candidate-0")
    assert losing.training is not None and losing.training.lr == LR[0]
    (folder.parent.parent / f"choices/{CHOICE}.json").unlink()
    assert Run.load(folder.parent / "candidate-0") == losing
    with pytest.raises(
        ConfigError, match=r"architecture-attention_conv\.json: no such file, and the run takes settings from it"
    ):
        Run.load(folder)


def test_a_choice_may_change_the_model(trained: tuple[Path, Path]) -> None:
    folder, _ = trained
    path = folder.parent.parent / f"choices/{CHOICE}.json"
    choice = json.loads(path.read_text())
    write_text(path, json.dumps(choice | {"settings": {"model.embedding_std": 0.5}}))
    loaded = Run.load(folder)
    assert loaded.model.embedding_std == 0.5 and loaded.training == TRAINING  # type: ignore[attr-defined]
    write_text(path, json.dumps(choice | {"settings": {"model.embeding_std": 0.5}}))
    with pytest.raises(ConfigError, match=r"config\.yaml: model\.embeding_std: unknown key; did you mean 'embedding_std'"):
        Run.load(folder)


@pytest.mark.parametrize("part", ["recall", "learning_curve"])
def test_a_model_of_another_choice_is_refused(trained: tuple[Path, Path], part: str) -> None:
    folder, data = trained
    evaluate(folder, data, part)
    before = (folder / f"parts/{part}/records.jsonl").read_bytes()
    choose_another(folder, 1e-4)
    with pytest.raises(ConfigError, match="was trained with another configuration than the run has now"):
        evaluate(folder, data, part)
    assert (folder / f"parts/{part}/records.jsonl").read_bytes() == before
    train(folder, data)
    found = {r.config for r in read_records(evaluate(folder, data, part))}
    assert found.isdisjoint({json.loads(line)["config"] for line in before.splitlines()})


def test_a_training_of_another_choice_is_not_resumed(
    trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two steps under one choice, started again under another."""
    folder, data = trained
    write_text(folder / "reporting.yaml", "checkpoint_every: 2\n")
    fit = Trainer._report

    def stops(self: Trainer, *rest: Any) -> float:
        if self.step == 4:
            raise KeyboardInterrupt
        return fit(self, *rest)

    monkeypatch.setattr(Trainer, "_report", stops)
    with pytest.raises(KeyboardInterrupt):
        train(folder, data)
    assert list((folder / "checkpoints").glob("step-00000002-*.pt"))
    monkeypatch.setattr(Trainer, "_report", fit)
    choose_another(folder, 1e-4)
    train(folder, data)
    report = json.loads((folder / "training.json").read_text())
    said = capsys.readouterr().out
    assert report["resumed_at"] == 0 and "training.lr" in said
    assert "lr: 0.0001" in said, "what it trains with is what it says"


def test_a_run_without_a_choice_is_known_by_its_file_alone(tmp_path: Path) -> None:
    folder, data = lay_out(following(choice=""), tmp_path)
    train(folder, data)
    records = read_records(evaluate(folder, data, "learning_curve"))
    assert {r.metric for r in records} == {"held_out_loss", "held_out_accuracy"}
    assert Run.load(folder).training == TRAINING


def test_a_loss_that_is_no_number_leaves_a_gap(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    path = folder / "training.json"
    report = json.loads(path.read_text())
    report["validation"][0] |= {"loss": None}
    write_text(path, json.dumps(report))
    records = read_records(evaluate(folder, data, "learning_curve"))
    assert [r.slice["step"] for r in records if r.metric == "held_out_loss"] == [6]
    assert [r.slice["step"] for r in records if r.metric == "held_out_accuracy"] == [4, 6]
    write_text(path, json.dumps(report | {"validation": []}))
    with pytest.raises(ConfigError, match=r"training\.json: the training measured nothing on held-out data; delete it"):
        evaluate(folder, data, "learning_curve")


def test_words_are_chosen_and_not_measured(trained: tuple[Path, Path]) -> None:
    """A setting that is text or a switch stands in the candidates' names alone: a record holds numbers."""
    folder, data = trained
    path = folder.parent.parent / f"choices/{CHOICE}.json"
    choice = json.loads(path.read_text())
    settings = {"training.lr": 2e-2, "model.residual_init": "plain", "training.compile": False, "training.clip": 1.0}
    write_text(path, json.dumps(choice | {"settings": settings}))
    train(folder, data)
    records = read_records(evaluate(folder, data, "learning_curve"))
    found = {r.slice["setting"]: r.value for r in records if r.metric == "chosen"}
    assert found == {"training.lr": 2e-2, "training.clip": 1.0}


@pytest.mark.parametrize("training", [None, TRAINING.replace(validate_every=0)])
def test_without_validations_there_is_no_curve(training: TrainingConfig | None) -> None:
    made = following(training=training, choice="")
    with pytest.raises(
        ConfigError, match=r"evaluation\.learning_curve: training\.validate_every is 0, so there is no learning curve"
    ):
        made.check()
    assert "learning_curve" in PARTS.names()
