"""A storm over a study on a cluster: processes and jobs are killed, cancelled and requeued, nodes die, and nothing is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from storm.kills import SIGNALS, Kill, by_signal, is_command, is_driver, is_log, storm
from storm.study import COMMAND, HOME, assert_same, checkout, made, there

from ripstop.left_jobs import jobs

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

CLUSTER = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1")


def by_slurm(folder: Path, *command: str) -> Kill:
    """A job of the study, by a command of Slurm."""

    def kill(draw: random.Random) -> str | None:
        found = running(folder)
        if not found:
            return None
        told = [*command, draw.choice(found)]
        subprocess.run(told, capture_output=True)
        return " ".join(told)

    return kill


def by_power(cluster: Path, folder: Path) -> Kill:
    """A node that a job of the study runs on; it comes back after some seconds."""

    def kill(draw: random.Random) -> str | None:
        found = [line for line in squeue("--states=running", "--format=%N|%Z") if line.endswith(f"|{folder}")]
        if not found:
            return None
        node = draw.choice(found).partition("|")[0]
        subprocess.run([cluster, "kill", node], check=True, capture_output=True)
        time.sleep(2)
        subprocess.run([cluster, "up"], check=True, capture_output=True)
        return f"power of node {node} off and on"

    return kill


def by_preemption(folder: Path) -> Kill:
    """A node that a job of the study runs on is wanted by a partition that goes first."""

    def kill(draw: random.Random) -> str | None:
        found = [line for line in squeue("--states=running", "--format=%N|%Z") if line.endswith(f"|{folder}")]
        if not found:
            return None
        node = draw.choice(found).partition("|")[0]
        wanting = ["sbatch", "--partition=main", "--exclusive", f"--nodelist={node}", "--time=1", "--output=/dev/null"]
        subprocess.run([*wanting, "--wrap", "sleep 3"], check=True, capture_output=True)
        return f"node {node} is wanted by a partition that goes first"

    return kill


def squeue(*options: str) -> list[str]:
    return subprocess.run(["squeue", "--noheader", *options], capture_output=True, text=True, check=True).stdout.split()


def running(folder: Path) -> list[str]:
    return [job for job in jobs(folder) if squeue("--job", job, "--format=%t") == ["R"]]


def all_kills(cluster: Path, folder: Path) -> list[Kill]:
    return [
        by_signal(folder, is_command, *SIGNALS),
        by_signal(folder, is_command, *SIGNALS),
        by_signal(folder, is_log, *SIGNALS),
        by_slurm(folder, "scancel"),
        by_slurm(folder, "scontrol", "requeue"),
        by_slurm(folder, "scancel", "--full", "--signal=USR1"),
        by_slurm(folder, "scancel", "--full", "--signal=USR2"),
        by_power(cluster, folder),
        by_preemption(folder),
        by_signal(folder, is_driver, "SIGKILL", "SIGINT", "SIGUSR1"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "scavenge")
    calm, stormy = (checkout(tmp_path / name, steps=1500, seeds=3) for name in ("calm", "stormy"))
    storm(stormy, all_kills(slurm, stormy), n=50, seed=7, pause=(1, 15), options=CLUSTER)
    made(calm)
    assert_same(stormy, calm)
    assert jobs(stormy) == []


@pytest.mark.slow
def test_jobs_that_a_killed_execution_left_are_cancelled_and_go_on(slurm: Path, tmp_path: Path) -> None:
    """The training is stopped on its way, with a checkpoint, and not done twice at once."""
    calm, stormy = (checkout(tmp_path / name, steps=800, seeds=1) for name in ("calm", "stormy"))
    with (tmp_path / "said.txt").open("w") as said:
        driver = subprocess.Popen([*COMMAND, *CLUSTER], cwd=stormy, env=there(stormy), stdout=said, stderr=said)
    deadline = time.monotonic() + 200
    while not list(stormy.glob(f"{HOME}/runs/*/checkpoints/step-*")):
        assert driver.poll() is None and time.monotonic() < deadline, (tmp_path / "said.txt").read_text()
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    left = jobs(stormy)
    assert left
    done = subprocess.run([*COMMAND, *CLUSTER], cwd=stormy, env=there(stormy), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        f"jobs of an execution that was killed are cancelled, and done again from where they were: {' '.join(left)}"
        in done.stdout
    )
    logs = [path.read_text() for path in (stormy / "results/smoke/logs").rglob("train.log")]
    assert any("resuming at step" in log for log in logs)
    made(calm)
    assert_same(stormy, calm)
