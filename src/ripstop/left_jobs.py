"""Slurm jobs of an execution of the workflow that was killed: nobody waits for them, and the next one submits theirs again."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from ripstop import slurm
from ripstop.config import ConfigError

MOVES_NO_NUMBER = "it cancels what is done again"

RUN_ID = re.compile(r"([\w-]+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The name that Snakemake's executor gives to all jobs of an execution."""
STATES = "pending,running,suspended,configuring,completing,requeued,requeue_hold"
"""Of jobs that run, or will."""
LOGS = "results/*/logs/slurm"
"""Where the profile `slurm` has the logs of jobs."""
PATIENCE = 300.0
"""Seconds that cancelled jobs may take to end: a cluster leaves them some to save what they have (`KillWait`)."""


def cancel(folder: Path) -> None:
    """Cancel the jobs that executions in `folder` left, and return when they have ended; there must be none at work.

    Their trainings save a checkpoint, and go on from it. `ConfigError` where they do not end, and where Slurm cannot be asked
    about a folder that has submitted to it.
    """
    try:
        left = jobs(folder)
    except ConfigError as error:
        logs = next(folder.glob(LOGS), None)
        if logs is None:  # there may be a `squeue` without a Slurm
            return
        raise ConfigError(
            f"{error}, and jobs whose logs are in {logs} may be left; start this where Slurm answers, "
            "or move that folder away where none of them can run any more"
        ) from None
    if not left:
        return
    print(
        f"jobs of an execution that was killed are cancelled, and done again from where they were: {' '.join(left)}", flush=True
    )
    subprocess.run(["scancel", *left], capture_output=True)  # what has ended meanwhile is no error of ours
    deadline = time.monotonic() + PATIENCE
    while left := _still(folder, left):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"Slurm: jobs of an execution that was killed have not ended {PATIENCE:.0f} s after they were cancelled: "
                f"{' '.join(left)}; see what `scontrol show job` says of them, and start again"
            )
        time.sleep(1)


def _still(folder: Path, before: list[str]) -> list[str]:
    """Those of the jobs that are there yet: all of them while Slurm does not answer."""
    try:
        return jobs(folder)
    except ConfigError:
        return before


def jobs(folder: Path) -> list[str]:
    """Ids of the jobs, waiting or running, that Snakemake submitted in `folder`; none where there is no Slurm to ask.

    `ConfigError` with what Slurm says where it refuses to answer.
    """
    if shutil.which("squeue") is None:
        return []
    asked = ["squeue", "--me", "--noheader", f"--states={STATES}", "--format=%A|%j|%Z"]
    told = subprocess.run(asked, capture_output=True, text=True)
    if told.returncode:
        raise ConfigError(slurm.refusal(told))
    rows = (line.split("|", 2) for line in told.stdout.splitlines())
    return sorted({job for job, name, home in rows if RUN_ID.fullmatch(name) and Path(home) == folder.resolve()}, key=int)
