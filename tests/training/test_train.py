"""A run's folder becomes a trained model, whatever stops the command on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from training.test_checkpoint import largest_file

from ripstop import __main__ as cli
from ripstop import provenance
from ripstop.batch import TokenBatch
from ripstop.config import ConfigError, TrainingError
from ripstop.data.mqar import MqarConfig, MqarStream
from ripstop.evaluation.base import Subject
from ripstop.models.base import Model
from ripstop.runs import Run
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.train import train
from ripstop.training.trainer import Trainer
from ripstop.training.validation import held_out_loss

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


def trained(run: Run, folder: Path, data: Path) -> Model:
    return Subject(run, folder, data, folder, torch.device("cpu")).model()


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
        (folder / f".new-{name}-0123abcd").mkdir()
        (folder / f".new-{name}-0123abcd" / name).write_text("what a kill left")
    train(folder, data)
    assert {path.name for path in folder.iterdir()} - before == {
        "env.json", "metrics.jsonl", "training.json", "model.safetensors"
    }  # fmt: skip
    model = trained(run, folder, data)
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
    leave_checkpoints(folder, data, monkeypatch)
    if changed == "code":
        (folder / "train.code").write_text("other\n")
    if changed == "data":
        (data / "data.json").write_text((data / "data.json").read_text() + " ")
    capsys.readouterr()
    train(folder, data, ["training.lr=0.02"] if changed == "configuration" else [])
    out = capsys.readouterr().out
    assert f"made with another {changed}" in out and "not resumed, kept in" in out
    assert ("training.lr was 0.01 and is 0.02" in out) == (changed == "configuration")
    assert json.loads((folder / "training.json").read_text())["resumed_at"] == 0
    assert list((folder / "checkpoints").glob("other-*/step-00000008-*.pt"))


def test_reporting_enters_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, folder, data = lay_out(tmp_path)
    leave_checkpoints(folder, data, monkeypatch)
    train(folder, data, ["reporting.log_every=3", "reporting.checkpoint_every=5", "reporting.keep_checkpoints=1"])
    assert json.loads((folder / "training.json").read_text())["resumed_at"] == 8


def test_going_back_to_the_former_settings_goes_on_where_those_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, folder, data = lay_out(tmp_path)
    leave_checkpoints(folder, data, monkeypatch)
    train(folder, data, ["training.steps=5"])
    train(folder, data)
    assert json.loads((folder / "training.json").read_text())["resumed_at"] == 8
    assert [json.loads(row)["step"] for row in (folder / "metrics.jsonl").read_text().splitlines()] == [2, 4, 6, 8, 9]


def leave_checkpoints(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was stopped at its very end."""
    with monkeypatch.context() as patched:
        patched.setattr("ripstop.training.train.write_results", stop)
        with pytest.raises(KeyboardInterrupt):
            train(folder, data)


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


def no_data(folder: Path, data: Path) -> str:
    (data / "data.json").unlink()
    return r"data/data\.json: no such file"


def broken_data_json(folder: Path, data: Path) -> str:
    (data / "data.json").write_bytes(b'{"vocab_size": \xff')
    return r"data/data\.json: cannot be read"


def edited_data(folder: Path, data: Path) -> str:
    path = data / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    return r"test\.safetensors: is not the file that data\.json describes"


def other_data(folder: Path, data: Path) -> str:
    MqarConfig(n_keys=6, n_values=7, num_pairs=[2], n_test=4).prepare(data)
    return r"data: holds the data mqar-\w+, and mqar-\w+ is asked for"


def no_code(folder: Path, data: Path) -> str:
    (folder / "train.code").unlink()
    return r"train\.code: no such file"


def broken_config(folder: Path, data: Path) -> str:
    (folder / "config.yaml").write_bytes(b"\xff\xfe")
    return r"config\.yaml:1: not UTF-8"


def no_cuda(folder: Path, data: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("device: cpu", "device: cuda"))
    return r"compute\.device: torch finds no CUDA device"


def too_few_tokens(folder: Path, data: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("tokens_per_step: 64", "tokens_per_step: 3"))
    return r"training\.tokens_per_step"


@pytest.mark.parametrize(
    "spoil", [no_data, broken_data_json, edited_data, other_data, no_code, broken_config, no_cuda, too_few_tokens]
)
def test_a_mistake_costs_neither_the_model_nor_a_checkpoint(
    tmp_path: Path, spoil: Callable[[Path, Path], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, folder, data = lay_out(tmp_path)
    train(folder, data)
    with monkeypatch.context() as patched:  # and a training of other settings was stopped
        patched.setattr("ripstop.training.train.write_results", stop)
        patched.setattr("ripstop.training.train.remove_results", lambda folder: None)
        with pytest.raises(KeyboardInterrupt):
            train(folder, data, ["training.lr=0.02"])
    sentence = spoil(folder, data)
    before = contents(folder)
    with pytest.raises(ConfigError, match=sentence) as raised:
        train(folder, data)
    assert "\n" not in str(raised.value)
    assert contents(folder) == before and (folder / "model.safetensors").is_file()


def test_a_full_disk_is_told_before_anything_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, folder, data = lay_out(tmp_path)
    train(folder, data)
    before = contents(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ConfigError, match=r"writes about \d+ MB there, and 0 MB are free; make room"):
        train(folder, data)
    assert contents(folder) == before


def test_a_stream_without_a_batch_is_told_before_anything_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, folder, data = lay_out(tmp_path)
    train(folder, data)
    before = contents(folder)

    def ends(stream: MqarStream) -> TokenBatch:
        raise StopIteration

    monkeypatch.setattr(MqarStream, "__next__", ends)
    with pytest.raises(ConfigError, match="there is no training batch"):
        train(folder, data)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path: Path):
    _, folder, data = lay_out(tmp_path)
    (folder / "checkpoints").write_text("a file")
    with pytest.raises(TrainingError, match="checkpoint of step 4 cannot be written") as raised:
        train(folder, data)
    assert "\n" not in str(raised.value)


def test_too_little_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, folder, data = lay_out(tmp_path)
    monkeypatch.setattr(Trainer, "_update", lambda *_: torch.empty(2**50))  # the allocator's own error
    with pytest.raises(TrainingError, match="the memory does not suffice; lower training.tokens_per_step") as raised:
        train(folder, data)
    assert "\n" not in str(raised.value)


def test_a_hundred_thousand_threads_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _, folder, data = lay_out(tmp_path)
    train(folder, data, ["compute.threads=100000"])
    assert json.loads((folder / "training.json").read_text())["threads"] == os.cpu_count()
    assert "compute.threads: 100000 asked for" in capsys.readouterr().out


def test_one_process_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Two real trainings: the second is refused by name and changes nothing; after the first was killed a third goes on."""
    _, folder, data = lay_out(tmp_path)
    endless = ["train", str(folder), "--data", str(data)]
    endless += ["--set", "training.steps=100000", "--set", "reporting.checkpoint_every=1"]
    with subprocess.Popen([sys.executable, "-m", "ripstop", *endless], stdout=subprocess.DEVNULL) as first:
        while not list(folder.glob("checkpoints/step-*.pt")):
            assert first.poll() is None
            time.sleep(0.05)
        monkeypatch.setattr(sys, "argv", ["ripstop", *endless])
        with pytest.raises(SystemExit) as second:
            cli.main()
        said = capsys.readouterr().err
        assert second.value.code == 2 and first.poll() is None
        assert f"error: {folder}: is in use by process {first.pid} on " in said and said.count("\n") == 1
        first.kill()
    train(folder, data)
    assert json.loads((folder / "training.json").read_text())["outcome"] == "finished"
    assert not (folder / "training.lock").exists()


def test_an_edited_description_of_the_data_is_refused_before_anything_trains(tmp_path: Path):
    _, folder, data = lay_out(tmp_path)
    before = {path.name for path in folder.iterdir()}
    description = json.loads((data / "data.json").read_text())
    (data / "data.json").write_text(json.dumps(description | {"vocab_size": description["vocab_size"] + 1}))
    with pytest.raises(ConfigError, match=r"data\.json: is not as it was written"):
        train(folder, data)
    assert {path.name for path in folder.iterdir()} == before


def test_the_files_name_each_other(tmp_path: Path):
    run, folder, data = lay_out(tmp_path)
    train(folder, data)
    report = json.loads((folder / "training.json").read_text())
    assert report["model_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert report["identity"] == {
        "configuration": provenance.digest((folder / "config.yaml").read_bytes()),
        "code": "c0de",
        "data": provenance.digest((data / "data.json").read_bytes()),
    }
    assert (report["study"], report["run"], report["seed"], report["frozen_base"]) == ("mqar_cliff", "tiny_seed-3", 3, "")
    assert report["outcome"] == "finished" and report["kept"] == {"which": "last", "step": 9}
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata == {
        **report["identity"], "study": "mqar_cliff", "run": "tiny_seed-3", "seed": "3", "format": "pt", "frozen_base": "",
    }  # fmt: skip


def test_the_best_by_validation_is_the_model_that_lies_there(tmp_path: Path):
    run, folder, data = lay_out(tmp_path)
    train(folder, data, ["training.validate_every=2", "training.keep=best"])
    kept = json.loads((folder / "training.json").read_text())["kept"]
    found = {row["step"]: row["validation_loss"] for row in map(json.loads, (folder / "metrics.jsonl").open())}
    assert sorted(found) == [2, 4, 6, 8, 9] and kept["validation_loss"] == min(found.values()) == found[kept["step"]]
    model = trained(run, folder, data)
    batches = run.data.validation(data, run.training.stream_plan(run.seed))
    assert held_out_loss(model, cross_entropy, batches, torch.device("cpu"), "fp32")[0] == pytest.approx(min(found.values()))


def test_a_divergence_that_is_an_outcome_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, folder, data = lay_out(tmp_path)
    told = ["training.on_divergence=record", "training.lr=1.0e+38", "training.warmup=0.0", "training.clip=0.0"]
    train(folder, data, told)
    report = json.loads((folder / "training.json").read_text())
    assert (report["outcome"], report["last_finite_step"]) == ("diverged", report["diverged_at"] - 1)
    assert "the training diverged; results in" in capsys.readouterr().out
    assert all(p.isfinite().all() for p in trained(run, folder, data).parameters())
    with pytest.raises(TrainingError, match="lower training.lr"):
        train(folder, data, told[1:])


def test_a_trained_model_is_better_than_the_untrained(tmp_path: Path):
    run, folder, data = lay_out(tmp_path)
    train(folder, data, ["training.steps=80", "training.tokens_per_step=512"])
    torch.manual_seed(3)
    models = run.model.build(run.data.info(data)).eval(), trained(run, folder, data)
    batches = list(run.data.validation(data, run.training.stream_plan(run.seed)))
    before, after = (held_out_loss(model, cross_entropy, batches, torch.device("cpu"), "fp32")[0] for model in models)
    assert after < before - 0.2
