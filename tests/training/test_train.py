"""A run's folder becomes a trained model, whatever stops the command on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training.test_checkpoint import largest_file

from ripstop.config import ConfigError, TrainingError
from ripstop.runs import Run
from ripstop.studies.base import load_trained
from ripstop.training.train import train
from ripstop.training.trainer import Trainer

SETTINGS: dict[str, Any] = {
    "study": "mqar_cliff",
    "scale": "smoke",
    "name": "tiny_seed-3",
    "seed": 3,
    "factors": {"architecture": "tiny"},
    "data": {"kind": "mqar", "n_keys": 5, "n_values": 7, "num_pairs": [2, 3], "n_test": 4},
    "model": {
        "kind": "decoder_only", "d_model": 24, "pattern": "A", "tie_embeddings": True,
        "mixers": {"A": {"kind": "attention", "n_heads": 2}},
    },
    "training": {"steps": 9, "tokens_per_step": 64, "lr": 0.01},
    "reporting": {"log_every": 2, "checkpoint_every": 4},
}  # fmt: skip


def lay_out(root: Path) -> tuple[Run, Path, Path]:
    """The run, its folder, and its prepared data."""
    run = Run.parse(SETTINGS, "test")
    folder, data = root / "run", root / "data"
    folder.mkdir(parents=True)
    for name, text in run.files().items():
        (folder / name).write_text(text)
    (folder / "train.code").write_text("c0de\n")
    run.data.prepare(data)
    return run, folder, data


def test_it_leaves_the_model_and_what_is_known_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, folder, data = lay_out(tmp_path)
    before = {path.name for path in folder.iterdir()}
    for name in ("model.safetensors", "training.json", "metrics.jsonl"):
        (folder / f".{name}.abc123").write_text("what a kill left")
    train(folder, data)
    assert {path.name for path in folder.iterdir()} - before == {"metrics.jsonl", "training.json", "model.safetensors"}
    model = load_trained(run, folder, data)
    summary = json.loads((folder / "training.json").read_text())
    assert summary["n_params"] == run.model.num_params(run.data.vocab_size(data)) == sum(p.numel() for p in model.parameters())
    assert (summary["steps"], summary["threads"], summary["precision"]) == (9, 1, "fp32")
    assert summary["identity"]["code"] == "c0de" and summary["versions"]["torch"] and summary["backends"]
    out = capsys.readouterr().out
    assert "tokens_per_step: 64" in out and f"results in {folder}" in out
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_seed_gives_the_same_bits_and_another_one_does_not(tmp_path: Path):
    models = []
    for name, overrides in (("a", []), ("b", []), ("c", ["seed=4"])):
        _, folder, data = lay_out(tmp_path / name)
        train(folder, data, overrides)
        models.append(load_file(folder / "model.safetensors"))
    a, b, c = models
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a if a[name].ndim > 1)


def test_a_disk_full_at_the_end_costs_nothing_but_the_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, folder, data = lay_out(tmp_path / "straight")
    train(folder, data)
    straight = load_file(folder / "model.safetensors")
    rows = (folder / "metrics.jsonl").read_text().splitlines()

    _, folder, data = lay_out(tmp_path / "full")
    limit, fit = largest_file(5000), Trainer.fit

    def fit_then_fill(trainer: Trainer) -> dict[str, Any]:
        summary = fit(trainer)
        limit.__enter__()  # training.json fits, the model does not
        return summary

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", fit_then_fill)
        try:
            with pytest.raises(TrainingError, match="the trained model cannot be written .*resumes from the last"):
                train(folder, data)
        finally:
            limit.__exit__(None, None, None)
    assert not [path for path in folder.iterdir() if "model.safetensors" in path.name]
    train(folder, data)
    assert json.loads((folder / "training.json").read_text())["resumed_at"] == 8
    resumed = load_file(folder / "model.safetensors")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    steps = [json.loads(row)["step"] for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(row)["step"] for row in rows] == [2, 4, 6, 8, 9]


@pytest.mark.parametrize("changed", ["code", "configuration", "data"])
def test_what_a_checkpoint_was_made_with_must_be_the_same(
    tmp_path: Path, changed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    _, folder, data = lay_out(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("ripstop.training.train._write_results", stop)
        with pytest.raises(KeyboardInterrupt):
            train(folder, data)
    if changed == "code":
        (folder / "train.code").write_text("other\n")
    if changed == "data":
        (data / "data.json").write_text((data / "data.json").read_text() + " ")
    capsys.readouterr()
    train(folder, data, ["training.lr=0.02"] if changed == "configuration" else [])
    assert f"made with another {changed}; not resumed" in capsys.readouterr().out
    assert json.loads((folder / "training.json").read_text())["resumed_at"] == 0


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.step=3", r"training\.step: unknown key; did you mean 'steps'\?"),
        ("training.steps=many", r"training\.steps: .*\(got 'many'\)"),
        ("training.steps", "--set training.steps: write it as key=value"),
    ],
)
def test_overrides_are_checked(tmp_path: Path, override: str, sentence: str):
    _, folder, data = lay_out(tmp_path)
    with pytest.raises(ConfigError, match=sentence):
        train(folder, data, [override])


def test_overrides_hold(tmp_path: Path):
    _, folder, data = lay_out(tmp_path)
    train(folder, data, ["training.steps=2", "training.accumulation=2"])
    assert json.loads((folder / "training.json").read_text())["steps"] == 2


def test_data_that_was_not_prepared_is_named(tmp_path: Path):
    _, folder, _ = lay_out(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere/data\.json: no such file"):
        train(folder, tmp_path / "nowhere")
