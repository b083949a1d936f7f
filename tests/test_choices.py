"""Choices: the candidate with the lowest held-out loss wins, whatever else was tried, and every seed of the arm follows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ripstop import choices, provenance, yaml_file
from ripstop.config import ConfigError
from ripstop.files import write_text

NAME = "mixer-mamba2"


def candidate(root: Path, number: int, losses: list[float | None], **changes: Any) -> Path:
    """Folder of a candidate with learning rate 0.1 times its number, and these held-out losses. changes: of training.json."""
    folder = root / f"runs/candidate-{number}"
    write_text(folder / "config.yaml", yaml_file.dump({"choice": NAME, "settings": {"training.lr": number / 10}}))
    report = {
        "outcome": "finished",
        "kept": {"which": "last", "step": 10 * len(losses)},
        "validation": [{"step": 10 * i, "n": 4, "loss": loss} for i, loss in enumerate(losses, 1)],
        "identity": {"configuration": provenance.digest((folder / "config.yaml").read_text())},
    }
    write_text(folder / "training.json", json.dumps(report | changes))
    return folder


def choose(root: Path, *folders: Path) -> float:
    """The learning rate that is chosen, after reading it back."""
    out = root / f"choices/{NAME}.json"
    made = choices.choose(folders, out)
    assert choices.chosen(root / "runs/any", NAME) == made
    assert [one.run for one in made.candidates] == [folder.name for folder in folders]
    lr = made.settings["training.lr"]
    assert isinstance(lr, float)
    return lr


def test_the_lowest_loss_at_the_end_wins(tmp_path: Path) -> None:
    """Not the lowest on the way, nor the first, nor the last, nor the highest."""
    folders = [candidate(tmp_path, n, losses) for n, losses in enumerate(([3, 2.5], [1, 2.25], [0.5, 2], [2, 9]))]
    assert choose(tmp_path, *folders) == 0.2
    made = choices.chosen(tmp_path / "runs/any", NAME)
    assert [(one.settings, one.loss) for one in made.candidates] == [
        ({"training.lr": 0}, 2.5), ({"training.lr": 0.1}, 2.25), ({"training.lr": 0.2}, 2), ({"training.lr": 0.3}, 9)
    ]  # fmt: skip


def test_of_equal_losses_the_first_wins(tmp_path: Path) -> None:
    folders = [candidate(tmp_path, number, [loss]) for number, loss in ((1, 2.0), (2, 1.5), (3, 1.5))]
    assert choose(tmp_path, *folders) == 0.2
    assert choose(tmp_path, *folders[::-1]) == 0.3


def test_a_training_that_keeps_its_best_model_is_judged_by_that(tmp_path: Path) -> None:
    best = {"which": "best", "step": 10, "validation_loss": 1.0}
    folders = [candidate(tmp_path, 1, [1.0, 3.0], kept=best), candidate(tmp_path, 2, [4.0, 2.0])]
    assert choose(tmp_path, *folders) == 0.1


def test_what_diverged_or_is_not_finite_never_wins(tmp_path: Path) -> None:
    kept = {"which": "best", "step": 10, "validation_loss": 0.5}
    folders = [
        candidate(tmp_path, 1, [0.1], outcome="diverged", kept={"which": "last finite", "step": 3}),
        candidate(tmp_path, 2, [0.5], outcome="diverged", kept=kept),
        candidate(tmp_path, 3, [0.2, None]),
        candidate(tmp_path, 4, [7.0]),
        candidate(tmp_path, 5, [], outcome="diverged"),
    ]
    assert choose(tmp_path, *folders) == 0.4
    found = choices.chosen(tmp_path / "runs/any", NAME).candidates
    assert [one.loss for one in found] == [None, None, None, 7.0, None]
    out = tmp_path / f"other/{NAME}.json"
    with pytest.raises(ConfigError, match=r"json: none of 3 candidates has a finite held-out loss; offer smaller training\.lr"):
        choices.choose(folders[:3], out)
    with pytest.raises(ConfigError, match=r"there is no candidate to choose from; name some by choice\.settings"):
        choices.choose([], out)
    assert not out.exists()


KEEPS_BEST = {"which": "best", "step": 1}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"validation": []}, "holds no held-out loss; delete it and train the candidate again"),
        ({"validation": [{"step": 1}]}, "holds no held-out loss"),
        ({"validation": [{"step": 1, "loss": "low"}]}, "holds no held-out loss"),
        ({"kept": KEEPS_BEST}, "holds no held-out loss"),
        ({"kept": 3}, "holds no held-out loss"),
        ({"identity": {}}, "holds no held-out loss"),
        ({"identity": {"configuration": "another"}}, "is of another configuration than the candidate has now; train"),
    ],
)
def test_a_report_that_cannot_be_judged_is_one_sentence(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    folders = [candidate(tmp_path, 1, [1.0]), candidate(tmp_path, 2, [2.0], **changes)]
    with pytest.raises(ConfigError, match=rf"candidate-2/training\.json: {told}") as error:
        choose(tmp_path, *folders)
    assert "\n" not in str(error.value) and not (tmp_path / "choices").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000], ids=["empty", "cut", "list", "number", "deep"])
def test_a_damaged_report_is_one_sentence(tmp_path: Path, text: str) -> None:
    folder = candidate(tmp_path, 1, [1.0])
    write_text(folder / "training.json", text)
    with pytest.raises(ConfigError, match=r"candidate-1/training\.json: holds no held-out loss"):
        choose(tmp_path, folder)


def test_an_untrained_candidate_is_named(tmp_path: Path) -> None:
    folder = candidate(tmp_path, 1, [1.0])
    (folder / "training.json").unlink()
    with pytest.raises(ConfigError, match=r"training\.json: no such file, the candidate is not trained; run the workflow"):
        choose(tmp_path, folder)


@pytest.mark.parametrize(
    "values", [{"choice": NAME}, {"choice": "mixer-gla", "settings": {"training.lr": 1}}, {"settings": {"a": 1}}]
)
def test_another_run_is_no_candidate(tmp_path: Path, values: dict[str, Any]) -> None:
    """A run that follows the choice, a candidate of another arm, a run without any choice."""
    folder = candidate(tmp_path, 1, [1.0])
    write_text(folder / "config.yaml", yaml_file.dump(values))
    with pytest.raises(ConfigError, match=r"config\.yaml: is no candidate for the choice 'mixer-mamba2'"):
        choose(tmp_path, folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"settings": {}, "candidates": []}', "[" * 100_000], ids=["cut", "list", "keys", "none", "deep"]
)
def test_a_choice_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / f"choices/{NAME}.json", text)
    with pytest.raises(ConfigError, match=r"mixer-mamba2\.json: is no choice .*delete it and let the workflow train"):
        choices.chosen(tmp_path / "runs/any", NAME)
    with pytest.raises(ConfigError, match=r"choices/other\.json: no such file, and the run takes settings from it"):
        choices.chosen(tmp_path / "runs/any", "other")


def test_settings_take_their_places_and_keep_their_types() -> None:
    values = {"training": {"lr": 1.0, "optimizer": {"betas": [0.9, 0.95]}}, "model": {"kind": "decoder_only"}}
    settings: dict[str, Any] = {
        "training.lr": 1e-06, "training.optimizer.betas.1": 0.5, "training.steps": 7, "training.compile": True,
        "model.residual_init": "plain", "model.pattern": "007",
    }  # fmt: skip
    assert choices.apply(values, settings) == {
        "training": {"lr": 1e-06, "optimizer": {"betas": [0.9, 0.5]}, "steps": 7, "compile": True},
        "model": {"kind": "decoder_only", "residual_init": "plain", "pattern": "007"},
    }
    assert values["training"]["lr"] == 1.0, "a copy"
