"""The command `restore`: results fetched, and Snakemake told which of them are current.

Git and DVC keep no time stamps, so that after `dvc pull` alone Snakemake would run everything again. What is current is touched
in the order of the graph; what is not stays stale.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ripstop.config import ConfigError, nearest
from ripstop.plan import Plan
from ripstop.restore.current import Restored
from ripstop.restore.pull import paper_is_current, pull
from ripstop.training.lock import Lock

FIRST = 3
"""So many of the stale outputs are named."""


def restore(grid: Plan, names: Sequence[str]) -> list[str]:
    """Fetch the results of the studies `names` (none: all of them), and make Snakemake take for current what is; one sentence
    a study. `ConfigError` where results cannot be had, and where some are not of this checkout: those are named, and stay
    stale."""
    for name in names:
        if name not in grid.studies:
            raise ConfigError(f"study {name!r} does not exist{nearest(name, grid.studies)}")
    # A study whose records another one prints comes with it, or its collection would count as missing.
    studies = [study for study in grid.studies if not names or any(study in (n, *grid.reads[n]) for n in names)]
    with _nobody_else():
        pull(grid, studies)
        paper = not names and paper_is_current()
    found = [Restored(grid, study) for study in studies]
    current = [target for study in found for target in study.current]
    drawn = [f"study_{study.name}" for study in found if study.drawn]
    if current:
        _snakemake(grid, "--touch", "--forceall", *current, *drawn, *(["all"] if paper and len(drawn) == len(found) else []))
    undrawn = [f"study_{study.name}" for study in found if not study.stale and not study.drawn]
    if undrawn:  # joined and drawn in seconds, where git does not keep it or another checkout drew it
        _snakemake(grid, *undrawn, "--allowed-rules", "collect", "render", *undrawn)
    stale = [told for study in found for told in study.stale]
    if stale:
        more = f" and {len(stale) - FIRST} more" if len(stale) > FIRST else ""
        raise ConfigError(
            f"not of this checkout's settings, data and code: {', '.join(stale[:FIRST])}{more}; check out the commit that they "
            f"were made at, or make them anew with `snakemake {' '.join(f'study_{s.name}' for s in found if s.stale)}`"
        )
    return [f"{study.name}: {len(study.current)} outputs of {len(grid.runs[study.name])} runs are current" for study in found]


@contextmanager
def _nobody_else() -> Iterator[None]:
    """No workflow runs in this folder meanwhile."""
    lock = Path(".snakemake/execution.lock").absolute()
    lock.parent.mkdir(exist_ok=True)
    with Lock(lock):
        yield


def _snakemake(grid: Plan, *arguments: str) -> None:
    here = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}  # none of it is for a cluster
    command = [sys.executable, "-m", "snakemake", *arguments, "--quiet", "all", "--config", f"scale={grid.scale}"]
    done = subprocess.run(command, env=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise ConfigError(f"snakemake ended with status {done.returncode}, for the reason above; mend it and restore again")
