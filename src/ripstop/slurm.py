"""Whether there is a Slurm that takes jobs: told at once, and not by hundreds of jobs that cannot be submitted."""

from __future__ import annotations

import re
import shutil
import subprocess

from ripstop.config import ConfigError

MOVES_NO_NUMBER = "it says where the workflow can run"

COMMANDS = ("sbatch", "squeue", "scancel")
REMEDY = "start this where Slurm is, as on the cluster's login node, or without `--profile slurm`"
PATIENCE = 120
"""Seconds that its controller may take to answer; its own commands give up after less."""


def check() -> None:
    """`ConfigError` where a command of Slurm is missing, or its controller does not answer."""
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise ConfigError(f"{command}: no such command here; {REMEDY}")
    try:
        asked = subprocess.run(["squeue", "--me", "--noheader"], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"squeue: no answer within {PATIENCE} s; see what `scontrol ping` says, or {REMEDY}") from None
    if asked.returncode:
        raise ConfigError(f"{refusal(asked)}; see what `scontrol ping` says, or {REMEDY}")


def refusal(asked: subprocess.CompletedProcess[str]) -> str:
    """What `squeue` said last before it failed."""
    told = (asked.stderr.strip() or f"squeue: status {asked.returncode}").splitlines()[-1]
    return re.sub(r"^squeue: (error|fatal): ", "squeue: ", told)
