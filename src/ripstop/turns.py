"""A training that waits for its turn where another process trains the run.

So a job of the workflow does whose folder a job of a killed execution still holds, or a process of a node that was given up: it
would be refused until no retry is left. It waits, and then goes on where the other one stopped, or finds that nothing is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.first_rank import rank
from ripstop.provenance import digest
from ripstop.runs import Run
from ripstop.training.distributed.telling import several
from ripstop.training.lock import InUseError, holder, refusal
from ripstop.training.train import LOCK

MOVES_NO_NUMBER = "it says when a training begins"

PAUSE = 0.5
"""Seconds between two looks."""


def in_turn(run_dir: Path, data: Path, train: Callable[[], None]) -> None:
    """`train()` once no other process trains in `run_dir`; nothing where that one has left what `train` would."""
    while True:
        if _waited(run_dir / LOCK) and _is_trained(run_dir, data):
            if rank() == 0:
                print(f"{run_dir}: was trained by the process that was waited for; there is nothing left to do", flush=True)
            return
        try:
            train()
            return
        except InUseError:  # another one that waited was quicker
            if several():  # whose processes have met by now, and end together
                raise


def _waited(lock: Path) -> bool:
    """Whether another process held the lock, which is free now."""
    waited = None
    while (owner := holder(lock)) is not None and not _is_first_rank(owner):
        if owner != waited and rank() == 0:
            print(f"{refusal(lock, owner)}; this one waits until it has ended", flush=True)
        waited = owner
        time.sleep(PAUSE)
    return waited is not None


def _is_first_rank(owner: dict[str, object]) -> bool:
    """Whether the owner is the first of the processes that this one was started with, which has its turn."""
    return rank() > 0 and owner.get("launch") == os.environ.get("TORCHELASTIC_RUN_ID")


def _is_trained(run_dir: Path, data: Path) -> bool:
    """Whether a model lies there that this run's configuration, code and data make."""
    from ripstop.evaluation.evaluate import training_report  # which most trainings need not import

    try:
        training_report(Run.load(run_dir), run_dir, {"data": digest((data / "data.json").read_bytes())})
    except (ConfigError, OSError):
        return False
    return True
