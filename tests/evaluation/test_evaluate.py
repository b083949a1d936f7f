"""Evaluating a run: the trained model is measured, and what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ripstop import provenance
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.evaluate import evaluate
from ripstop.evaluation.recall import RecallConfig
from ripstop.evaluation.state_size import StateSizeConfig
from ripstop.files import write_text
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement, read_records
from ripstop.runs import Run
from ripstop.training.config import TrainingConfig
from ripstop.training.train import train


def run(name: str = "seed-0", seed: int = 0, steps: int = 60, **changes: object) -> Run:
    """One attention layer with a short convolution, which learns two pairs of four keys in seconds."""
    values = {
        "study": "mqar_cliff",
        "scale": "cpu",
        "name": name,
        "seed": seed,
        "factors": {"architecture": "attention_conv"},
        "data": MqarConfig(n_keys=4, n_values=4, num_pairs=[2], n_test=64),
        "model": DecoderOnlyConfig(d_model=32, pattern="C", mixers={"C": AttentionConfig(n_heads=1, d_conv=4)}),
        "training": TrainingConfig(steps=steps, tokens_per_step=1024, lr=1e-2),
        "evaluation": {"recall": RecallConfig(), "state_size": StateSizeConfig()},
    }
    return Run(**(values | changes))


def lay_out(made: Run, root: Path) -> tuple[Path, Path]:
    """The files that the plan would write, and prepared data."""
    folder, data = root / "runs" / made.name, root / "data"
    for name, text in made.files().items():
        write_text(folder / name, text)
    for stage in ("train", *made.evaluation):
        write_text(folder / f"{stage}.code", "0123456789abcdef\n")
    if not data.exists():
        made.data.prepare(data)
    return folder, data


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs and their data."""
    root = tmp_path_factory.mktemp("trained")
    for seed in (0, 1):
        train(*lay_out(run(f"seed-{seed}", seed), root))
    return root


@pytest.fixture
def trained(original: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of them: folder of the run with seed 0, its data."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs" / "seed-0", tmp_path / "data"


def recall_of(path: Path, control: str = "own") -> float:
    return next(r.value for r in read_records(path) if r.metric == "accuracy" and r.slice["control"] == control)


def test_the_trained_model_is_measured_and_beats_the_untrained_one(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = trained
    after = recall_of(evaluate(folder, data, "recall"))
    assert after > 0.9
    assert recall_of(folder / "parts/recall/records.jsonl", "wrong") < 0.5
    bare, _ = lay_out(run("untrained", training=None), tmp_path)
    assert recall_of(evaluate(bare, data, "recall")) < 0.6
    assert {(r.model, r.commit) for r in read_records(bare / "parts/recall/records.jsonl")} == {("", provenance.commit())}


def test_records_say_what_they_were_measured_on(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    records = read_records(evaluate(folder, data, "state_size"))
    report = json.loads((folder / "training.json").read_text())
    assert {(r.study, r.run, r.scale, r.seed, r.part) for r in records} == {("mqar_cliff", "seed-0", "cpu", 0, "state_size")}
    assert {(r.model, r.commit) for r in records} == {(report["model_sha256"][:16], report["commit"])}
    assert {r.code for r in records} == {"0123456789abcdef"}
    assert all(r.device not in ("", "cpu") for r in records)


def test_settings_of_the_part_enter_its_digest(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    first = read_records(evaluate(folder, data, "recall"))[0].config
    write_text(folder / "recall.yaml", "kind: recall\ncontrols: [own]\nbatch_size: 64\n")
    records = read_records(evaluate(folder, data, "recall"))
    assert {r.config for r in records} != {first}
    assert {r.slice.get("control") for r in records if r.metric == "accuracy"} == {"own"}


def test_the_digest_of_a_record_is_of_the_configuration_and_the_settings(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    config, settings = (folder / "config.yaml").read_bytes(), (folder / "recall.yaml").read_bytes()
    records = read_records(evaluate(folder, data, "recall"))
    assert {r.config for r in records} == {provenance.digest(config + settings)}
    assert {r.data for r in records} == {provenance.digest((data / "data.json").read_bytes())}


def other_model(folder: Path, data: Path) -> None:
    shutil.copy(folder.parent / "seed-1" / "model.safetensors", folder)


def other_run(folder: Path, data: Path) -> None:
    for name in ("model.safetensors", "training.json"):
        shutil.copy(folder.parent / "seed-1" / name, folder)


def damaged(folder: Path, data: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def other_settings(folder: Path, data: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("steps: 60", "steps: 61"))


def other_code(folder: Path, data: Path) -> None:
    (folder / "train.code").write_text("fedcba9876543210\n")


def other_data(folder: Path, data: Path) -> None:
    path = data / "data.json"
    path.write_text(path.read_text() + "\n")


def damaged_data(folder: Path, data: Path) -> None:
    path = data / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def trained_by_hand(folder: Path, data: Path) -> None:
    train(folder, data, ["training.steps=2"])


def without(*names: str) -> Callable[[Path, Path], None]:
    def change(folder: Path, data: Path) -> None:
        for name in names:
            (data if name == "data.json" else folder).joinpath(name).unlink()

    return change


def broken_report(folder: Path, data: Path) -> None:
    (folder / "training.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_model, "is not the model that training.json describes"),
        (other_run, "another configuration"),
        (damaged, "damaged"),
        (other_settings, "another configuration"),
        (other_code, "another code"),
        (other_data, "data"),
        (damaged_data, r"test\.safetensors: is not the file that data\.json describes"),
        (trained_by_hand, "another configuration"),
        (without("model.safetensors"), "not trained"),
        (without("training.json"), "not trained"),
        (without("data.json"), r"data\.json"),
        (without("recall.yaml"), r"recall\.yaml"),
        (without("recall.code"), r"recall\.code"),
        (without("config.yaml"), r"config\.yaml"),
        (broken_report, r"training\.json"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    trained: tuple[Path, Path], change: Callable[[Path, Path], None], told: str
) -> None:
    folder, data = trained
    evaluate(folder, data, "recall")
    before = (folder / "parts/recall/records.jsonl").read_bytes()
    change(folder, data)
    with pytest.raises(ConfigError, match=told):
        evaluate(folder, data, "recall")
    assert (folder / "parts/recall/records.jsonl").read_bytes() == before
    assert [path.name for path in (folder / "parts").iterdir()] == ["recall"]


def test_a_run_that_was_allowed_to_diverge_is_a_record(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, data = trained
    training = TrainingConfig(steps=5, tokens_per_step=256, lr=1e2, on_divergence="record")
    made = run("diverges", training=training)
    folder, _ = lay_out(made, tmp_path)
    train(folder, data)
    report = json.loads((folder / "training.json").read_text())
    write_text(folder / "training.json", json.dumps(report | {"outcome": "diverged"}))
    records = read_records(evaluate(folder, data, "recall"))
    assert [(r.metric, r.value) for r in records] == [("diverged", 1)]


def test_a_report_of_a_divergence_that_the_run_does_not_allow_is_refused(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    report = json.loads((folder / "training.json").read_text())
    write_text(folder / "training.json", json.dumps(report | {"outcome": "diverged"}))
    with pytest.raises(ConfigError, match="says that the training diverged, which this run does not allow"):
        evaluate(folder, data, "recall")


def test_a_run_s_name_stays_in_its_folder() -> None:
    for name in ("../evil", "a b", "a=b", ""):
        with pytest.raises(ValueError, match="name"):
            run(name)


def leaving(*names: str) -> Callable[[RecallConfig, Subject], Iterator[Measurement]]:
    """A measure that writes these files."""

    def measure(self: RecallConfig, subject: Subject) -> Iterator[Measurement]:
        assert torch.is_inference_mode_enabled() and not subject.model().training
        for name in names:
            (subject.out / name).write_text("new")
        yield Measurement("accuracy", 0.25, "fraction", 4)

    return measure


def test_a_declared_file_that_is_not_written_is_a_bug(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, data = trained
    monkeypatch.setattr(RecallConfig, "files", ("a.txt", "b.txt"))
    monkeypatch.setattr(RecallConfig, "measure", leaving("a.txt", "b.txt"))
    before = evaluate(folder, data, "recall").read_bytes()
    assert {path.name for path in (folder / "parts/recall").iterdir()} == {"a.txt", "b.txt", "records.jsonl"}
    monkeypatch.setattr(RecallConfig, "measure", leaving("a.txt"))
    with pytest.raises(TypeError, match=r"part recall declares b\.txt and did not write it"):
        evaluate(folder, data, "recall")
    assert (folder / "parts/recall/records.jsonl").read_bytes() == before


def test_records_never_lie_beside_half_of_the_files(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails between two files leaves no records, the former ones included."""
    folder, data = trained
    monkeypatch.setattr(RecallConfig, "measure", leaving("z.txt"))
    records = evaluate(folder, data, "recall")
    replace = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if self.name == "z.txt":
            raise OSError("the disk fails")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="the disk fails"):
        evaluate(folder, data, "recall")
    assert not records.exists()
    monkeypatch.setattr(Path, "replace", replace)
    assert [r.value for r in read_records(evaluate(folder, data, "recall"))] == [0.25]


def test_what_a_killed_evaluation_left_is_removed_by_the_next(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom ripstop.evaluation import evaluate\n"
        "evaluate.write_records = lambda path, records: (path.write_text('half'), os.kill(os.getpid(), signal.SIGKILL))\n"
        "evaluate.evaluate(Path(sys.argv[1]), Path(sys.argv[2]), 'recall')\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(folder), str(data)]).returncode == -signal.SIGKILL
    (left,) = (folder / "parts").iterdir()
    assert left.name.startswith(".new-recall-") and (left / "records.jsonl").read_text() == "half"
    evaluate(folder, data, "recall")
    assert [path.name for path in (folder / "parts").iterdir()] == ["recall"]


def test_a_model_can_be_rebuilt_under_another_rule(trained: tuple[Path, Path]) -> None:
    folder, data = trained
    made = Run.load(folder, parts=["recall"])
    subject = Subject(made, folder, data, folder, torch.device("cpu"))
    same = subject.model({"norm": {"kind": "rms_norm", "eps": 1e-3}})
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), subject.model().parameters(), strict=True))
    with pytest.raises(ConfigError, match="did you mean 'd_model'"):
        subject.model({"d_modell": 16})
    with pytest.raises(ConfigError, match="shape|size"):
        subject.model({"d_model": 16})
