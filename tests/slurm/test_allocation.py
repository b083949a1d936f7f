"""One training of several processes inside an allocation, on one node and on two: the losses of one process, and one reason
where a process is lost."""

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
from storm.kills import command_line
from training.distributed.test_torchrun import SETTINGS, lay_out

from ripstop.runs import Run
from ripstop.training.train import train

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm"), pytest.mark.timeout(900)]

STEPS = 40
TORCHRUN = f"{sys.executable} -m torch.distributed.run"
LAUNCHES = {
    "four processes on a node": ("-N1 -n1 -c2", f"{TORCHRUN} --standalone --nproc_per_node=4"),
    "a process on each of two nodes": (
        "-N2 -n2 --ntasks-per-node=1",
        f"srun {TORCHRUN} --nnodes=2 --nproc_per_node=1 --rdzv_backend=c10d --rdzv_id=$SLURM_JOB_ID"
        " --rdzv_endpoint=127.0.0.1:$((20000 + SLURM_JOB_ID))",
    ),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `data`, and `one`, where a single process has trained."""
    root = tmp_path_factory.mktemp("processes")
    text = root / "corpus.txt"
    text.write_text("".join(f"In line {n} somebody counts to {n * n}, and not any further.\n" for n in range(300)))
    run = run_of(root)
    run.data.prepare(root / "data")
    lay_out(run, root / "one")
    train(root / "one", root / "data")
    return root


def run_of(root: Path, steps: int = STEPS) -> Run:
    source = {"path": str(root / "corpus.txt"), "text_document": "line"}
    changes: dict[str, Any] = {
        "data": SETTINGS["data"] | {"source": source},
        "training": SETTINGS["training"] | {"steps": steps},
        "reporting": {"log_every": 1, "checkpoint_every": 5},
    }
    return Run.parse(SETTINGS | changes, "test")


def submit(root: Path, name: str, launch: str) -> str:
    """The number of a job that trains in the folder `name`; what it says goes to <name>.txt."""
    allocation, torchrun = LAUNCHES[launch]
    command = f"{torchrun} -m ripstop train {root / name} --data {root / 'data'}"
    there = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    asked = ["sbatch", "--parsable", "--no-requeue", *allocation.split(), f"--output={root / name}.txt", "--open-mode=append"]
    done = subprocess.run([*asked, "--wrap", command], env=there, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def state(job: str) -> str:
    told = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    return told.partition("JobState=")[2].split()[0]


def ended(job: str, said: Path) -> str:
    """How it has, after it has."""
    deadline = time.monotonic() + 500
    while (found := state(job)) in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.2)
    return found


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_as_one(folder: Path, one: Path, processes: int) -> None:
    """Losses and weights of a single process but for rounding."""
    report = json.loads((folder / "training.json").read_text())
    assert (report["processes"], report["outcome"], report["steps"]) == (processes, "finished", STEPS)
    for several, single in zip(rows(folder), rows(one), strict=True):
        assert several["step"] == single["step"] and several["loss"] == pytest.approx(single["loss"], rel=1e-3)
    weights, expected = load_file(folder / "model.safetensors"), load_file(one / "model.safetensors")
    for name in expected:  # float32; where a gradient is near 0, AdamW makes much of its last bits
        torch.testing.assert_close(weights[name], expected[name], rtol=0, atol=5e-3, msg=name)


def test_four_processes_train_as_one(home: Path) -> None:
    """(Two, on one node and on two, do so in test_processes.py.)"""
    lay_out(run_of(home), home / "four")
    job = submit(home, "four", "four processes on a node")
    said = home / "four.txt"
    assert ended(job, said) == "COMPLETED", said.read_text()
    assert_as_one(home / "four", home / "one", 4)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_lost_process_ends_the_job_with_the_reason_and_the_next_one_goes_on(home: Path, launch: str) -> None:
    name = "killed-" + launch.replace(" ", "-")
    folder, said = home / name, home / f"{name}.txt"
    lay_out(run_of(home, steps=10**5), folder)
    job = submit(home, name, launch)
    deadline = time.monotonic() + 500
    while not list(folder.glob("checkpoints/step-*")):
        assert state(job) in ("PENDING", "CONFIGURING", "RUNNING") and time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)
    first = json.loads((folder / "training.lock").read_text())["pid"]
    ranks = [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if is_rank(pid, folder)]
    assert first in ranks and len(ranks) == (4 if "four" in launch else 2)
    os.kill(next(pid for pid in ranks if pid != first), signal.SIGKILL)
    killed = time.monotonic()
    assert ended(job, said) == "FAILED"
    assert time.monotonic() - killed < 60  # seconds on an idle machine; torchrun itself takes some to end
    assert not any(is_rank(pid, folder) for pid in ranks)
    text = said.read_text()
    told = [line for line in text.splitlines() if line.startswith("error: ")]
    # torchrun sends SIGTERM to those that are left as soon as it sees the loss: before or after they have seen it themselves.
    assert told and ("another process of this training has ended" in told[0] or told[0] == "error: stopped by SIGTERM"), text
    assert "Signal 9 (SIGKILL)" in text

    reached = max(int(path.name.split("-")[1]) for path in folder.glob("checkpoints/step-*"))
    again = submit(home, name, launch)
    while f"resuming at step {reached} of" not in said.read_text():
        assert state(again) in ("PENDING", "CONFIGURING", "RUNNING") and time.monotonic() < deadline + 200, said.read_text()
        time.sleep(0.1)
    subprocess.run(["scancel", again], check=True)
    ended(again, said)


def is_rank(pid: int, folder: Path) -> bool:
    arguments = command_line(pid)
    return "torch.distributed.run" not in arguments and str(folder) in arguments and arguments[1:4] == ["-u", "-m", "ripstop"]
