"""Runs and choices, where the tampered checkout does not reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from verify import tree

from ripstop import provenance
from ripstop.verify.runs import check_choices, check_records, check_runs

CHOICE = {"settings": {"training.lr": 0.01}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two candidates, of which the second has the lower loss, and what was chosen."""
    found = []
    for i, (lr, loss) in enumerate([(0.1, 3.0), (0.01, 2.0)]):
        run = tmp_path / "runs" / f"candidate-{i}"
        run.mkdir(parents=True)
        config = f"choice: arm\nsettings: {{training.lr: {lr}}}\n"
        (run / "config.yaml").write_text(config)
        report = {"outcome": "finished", "validation": [{"loss": loss}], "kept": {"which": "last"}}
        report |= {"identity": {"configuration": provenance.digest(config)}}
        (run / "training.json").write_text(json.dumps(report))
        found.append({"run": run.name, "settings": {"training.lr": lr}, "loss": loss})
    (tmp_path / "choices").mkdir()
    (tmp_path / "choices/arm.json").write_text(json.dumps(CHOICE | {"candidates": found}))
    return tmp_path


CHOICES = {"arm": ["candidate-0", "candidate-1"]}


def test_what_an_arm_chose_is_its_best_candidate(folder: Path) -> None:
    file = folder / "choices/arm.json"
    assert check_choices(folder, CHOICES) == []
    file.write_text(file.read_text().replace('{"settings": {"training.lr": 0.01}', '{"settings": {"training.lr": 0.1}'))
    assert check_choices(folder, CHOICES) == [f"{file}: settings.training.lr is 0.1, the candidates give 0.01"]


def test_a_candidate_of_other_settings_is_told(folder: Path) -> None:
    config = folder / "runs/candidate-1/config.yaml"
    config.write_text(config.read_text().replace("0.01", "0.02"))
    (told,) = check_choices(folder, CHOICES)
    assert "candidate-1/training.json: is of another configuration than the candidate has now" in told


def test_a_choice_whose_candidates_are_not_here_is_taken_as_it_is(folder: Path) -> None:
    (folder / "runs/candidate-0/training.json").unlink()
    assert check_choices(folder, CHOICES) == []


def test_a_run_that_nothing_is_measured_of_needs_no_records(checkout: Path) -> None:
    folder, jobs = checkout / "results/cpu/tide", dict(tree.plan().runs["tide"])
    candidate = jobs["arm-mamba2_seed-0"]
    jobs["candidate"] = type(candidate)(**{**vars(candidate), "parts": {}})
    assert check_records(checkout / "results/records/cpu/tide.jsonl.gz", folder, jobs) == []


def test_damaged_reports_and_records_are_sentences(checkout: Path) -> None:
    folder, jobs = checkout / "results/cpu/tide", tree.plan().runs["tide"]
    one, two = (folder / "runs" / f"arm-mamba2_seed-{seed}" for seed in (0, 1))
    (one / "training.json").write_text("{")
    (two / "parts/recall/records.jsonl").write_text("x\n")
    found = check_runs(folder, jobs, checkout / "results/cpu/data")
    assert [line.removeprefix(f"{folder}/runs/") for line in found] == [
        "arm-mamba2_seed-0/training.json: not a report of a training; train the run again",
        "arm-mamba2_seed-1/parts/recall/records.jsonl:1: not a JSON line; delete the file and evaluate the run again",
    ]
