"""The command under torchrun: whatever ends one process ends all, with one reason, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training.distributed.test_distributed import launch

from ripstop.config import ConfigError
from ripstop.data.mqar import MqarStream
from ripstop.runs import Run
from ripstop.training.distributed.ranks import Ranks
from ripstop.training.train import _own_part, train

SETTINGS: dict[str, Any] = {
    "study": "swa_mla",
    "scale": "smoke",
    "name": "tiny_seed-3",
    "seed": 3,
    "factors": {},
    "data": {"kind": "text", "tokenizer": {"kind": "bytes"}, "block_size": 16, "held_out_share": 0.2},
    "model": {
        "kind": "decoder_only", "d_model": 24, "pattern": "AA", "tie_embeddings": True,
        "mixers": {"A": {"kind": "attention", "n_heads": 2}},
    },
    "training": {"steps": 100000, "tokens_per_step": 80, "lr": 0.01},
    "parallel": {"strategy": "fsdp", "timeout": 60},
    "reporting": {"log_every": 1000, "checkpoint_every": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `data`, and `run` as it is planned."""
    root = tmp_path_factory.mktemp("torchrun")
    text = root / "corpus.txt"
    text.write_text("".join(f"In line {n} somebody counts to {n * n}, and not any further.\n" for n in range(300)))
    source = {"path": str(text), "text_document": "line"}
    run = Run.parse(SETTINGS | {"data": SETTINGS["data"] | {"source": source}}, "test")
    lay_out(run, root / "run")
    run.data.prepare(root / "data")
    return root


def lay_out(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, text in run.files().items():
        (folder / name).write_text(text)
    (folder / "train.code").write_text("c0de\n")


def torchrun(root: Path, name: str) -> subprocess.Popen[str]:
    """What it says goes to the files <name>.out and <name>.err."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "ripstop", "train"]
    command += [str(root / "run"), "--data", str(root / "data")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (root / f"{name}.out").open("w") as out, (root / f"{name}.err").open("w") as error:
        return subprocess.Popen(command, env=environment, text=True, stdout=out, stderr=error)


def wait_for_checkpoint(process: subprocess.Popen[str], root: Path, after: int, name: str) -> None:
    deadline = time.monotonic() + 200
    while not any(int(path.name.split("-")[1]) > after for path in root.glob("run/checkpoints/step-*")):
        assert process.poll() is None and time.monotonic() < deadline, (root / f"{name}.err").read_text()
        time.sleep(0.05)


def newest(root: Path) -> Path:
    return max(root.glob("run/checkpoints/step-*"))


def test_a_killed_process_ends_all_with_the_reason_and_the_same_command_goes_on(home: Path) -> None:
    with torchrun(home, "killed") as process:
        wait_for_checkpoint(process, home, 0, "killed")
        first = json.loads((home / "run" / "training.lock").read_text())["pid"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (other,) = [int(pid) for pid in children if int(pid) != first]
        os.kill(other, signal.SIGKILL)
        killed = time.monotonic()
        assert process.wait(60) == 1
        assert time.monotonic() - killed < 40  # seconds on an idle machine; torchrun itself takes some to end
    said = (home / "killed.err").read_text()
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and told[0].startswith("error: rank 0: another process of this training has ended"), said
    report = said[said.index("Root Cause") :]
    assert "rank      : 1 (local_rank: 1)" in report and "Signal 9 (SIGKILL)" in report
    assert not Path(f"/proc/{first}").exists()

    reached = int(newest(home).name.split("-")[1])
    with torchrun(home, "again") as process:  # the same command
        wait_for_checkpoint(process, home, reached, "again")
        process.terminate()  # torchrun, and by it all processes
        assert process.wait(60) != 0
    out, path = (home / "again.out").read_text(), newest(home)
    assert f"resuming at step {reached} of 100000 from " in out
    step = int(path.name.split("-")[1])
    assert out.count(f"SIGTERM: stopped after step {step}; the same command resumes from {path}") == 1
    assert "error: " not in (home / "again.err").read_text() and not (home / "run" / "training.lock").exists()


def test_an_error_of_one_process_is_told_once_with_its_traceback(home: Path, tmp_path: Path) -> None:
    """A bug in one of them, and a mistake that all of them find. (These are forked, which is faster than torchrun.)"""
    arguments = ["--data", str(home / "data"), "--set", "training.steps=5"]
    lay_out(Run.load(home / "run"), tmp_path / "run")
    command = ["train", str(tmp_path / "run"), *arguments]
    groups = [
        {"n": 2, "folder": str(tmp_path / "bug"), "command": command, "fails": "1"},
        {"n": 2, "folder": str(tmp_path / "mistake"), "command": [*command, "--set", "training.tokens_per_step=16"]},
        {"n": 2, "folder": str(tmp_path / "fine"), "command": command},
    ]
    launch(tmp_path, groups)
    bug, mistake = ((tmp_path / name / "stderr-1").read_text() for name in ("bug", "mistake"))
    assert bug.count("Traceback") == 1 and "ZeroDivisionError" in bug and "this is a bug in ripstop" in bug
    assert "error" not in (tmp_path / "bug" / "stderr-0").read_text()
    assert json.loads((tmp_path / "bug" / "statuses.json").read_text()) == [1, 1]
    assert json.loads((tmp_path / "bug" / "error-1.json").read_text())["message"]["message"].rstrip("\n") == bug.rstrip("\n")
    assert not (tmp_path / "bug" / "error-0.json").exists()
    told = [mistake, (tmp_path / "mistake" / "stderr-0").read_text()]
    assert sorted(map(bool, told)) == [False, True]
    assert "has none for some of 2 ranks; raise it" in "".join(told) and "".join(told).count("\n") == 1
    assert json.loads((tmp_path / "mistake" / "statuses.json").read_text()) == [2, 2]
    assert json.loads((tmp_path / "fine" / "statuses.json").read_text()) == [0, 0]

    lay_out(Run.load(home / "run"), tmp_path / "one")
    train(tmp_path / "one", home / "data", ["training.steps=5"])  # by one process
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "run"))
    assert one.keys() == two.keys()
    for name in one:  # float32; where a gradient is near 0, AdamW makes much of its last bits
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-3, msg=name)
    first, second = (json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("one", "run"))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    report = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (report["processes"], report["strategy"], report["outcome"], report["steps"]) == (2, "fsdp", "finished", 5)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml", "reporting.yaml", "parallel.yaml", "train.code", "env.json", "metrics.jsonl", "training.json",
        "model.safetensors",
    }  # fmt: skip


def test_how_processes_share_a_training_stands_beside_its_configuration_and_not_in_it() -> None:
    files, other = (Run.parse(SETTINGS | {"parallel": told}, "").files() for told in ({}, {"strategy": "fsdp"}))
    assert "parallel.yaml" not in files and files == {k: v for k, v in other.items() if k != "parallel.yaml"}
    assert other["parallel.yaml"] == "strategy: fsdp\nunused_parameters: false\ntimeout: 600\n"


def test_data_that_cannot_be_shared_are_refused() -> None:
    run = Run.parse(SETTINGS | {"data": {"kind": "mqar", "n_keys": 5, "n_values": 7, "num_pairs": [2], "n_test": 4}}, "")
    stream = MqarStream(run.data, run.training.stream_plan(3))
    assert _own_part(stream, run, Ranks()) is stream
    with pytest.raises(ConfigError, match=r"data\.kind: mqar is read by one process, and 2 were started; start one, or use"):
        _own_part(stream, run, Ranks(1, 2))
