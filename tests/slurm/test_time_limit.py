"""A training whose job comes to its time limit is warned by Slurm, saves a checkpoint, and the next try goes on from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from slurm.on_cluster import checkout, completed, digest, model, runs_of, said, wait_until, workflow

from ripstop.runs import Run
from ripstop.training.train import train

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(900)]

WARNING = 1 << signal.SIGUSR2 - 1


def is_warned(pid: int) -> bool:
    """Whether the signal waits for a process that is stopped, or Slurm let it go on with it and it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    return bool(int(status.partition("ShdPnd:")[2].split()[0], 16) & WARNING)


def resumed_at(folder: Path) -> int:
    return json.loads((folder / "training.json").read_text())["resumed_at"]


def test_a_warned_training_saves_and_the_next_try_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """It is stopped until Slurm has warned it, so that no machine is too fast or too slow for the limit."""
    folder = checkout(tmp_path, blind_start={"resources": {"runtime": 6, "group": 1}, "steps": [150]})
    run = runs_of(folder, "blind_start")[0]
    at = folder / "results/smoke" / run
    lock, rows = at / "training.lock", at / "metrics.jsonl"
    with workflow(folder, model(run)) as process:
        wait_until(lambda: lock.exists() and lock.read_text() and rows.exists() and rows.read_text(), process, folder)
        pid = json.loads(lock.read_text())["pid"]
        os.kill(pid, signal.SIGSTOP)
        job = json.loads((at / "env.json").read_text())["environment"]["SLURM_JOB_ID"]
        subprocess.run(["scontrol", "update", f"jobid={job}", "timelimit=3"], check=True)  # so the warning comes in a minute
        wait_until(lambda: is_warned(pid), process, folder)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        assert process.wait(600) == 0, said(folder)
    warned, last = completed(folder)
    assert (warned["JobId"], warned["JobState"], warned["TimeLimit"]) == (job, "FAILED", "3"), "it ended before its time"
    assert (last["JobState"], last["TimeLimit"]) == ("COMPLETED", "12")
    reached, resumed = resumed_at(at), digest(folder, run)
    train(at, Run.load(at).data_beside(at))
    assert reached > 0 == resumed_at(at) and digest(folder, run) == resumed
