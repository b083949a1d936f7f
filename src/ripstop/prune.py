"""What left the grid: named first, and removed only where the user says so."""

from __future__ import annotations

import shutil
from pathlib import Path

from ripstop.files import read_text
from ripstop.plan import Plan

MOVES_NO_NUMBER = "removes what no number comes from any more"


def strangers(plan: Plan, root: Path = Path()) -> list[Path]:
    """Folders of runs and of prepared data that an earlier plan made and that this one does not have.

    A folder that no plan made is none, nor is a copy of a run under a name of the user's own.
    """
    folder = plan.folder(root)
    found = []
    for mark in folder.glob("*/runs/*/train.code"):
        home = mark.parent
        study = home.parent.parent.name
        if home.name not in plan.runs.get(study, {}) and _is_named(home, home.name):
            found.append(home)
    return sorted([*found, *(mark.parent for mark in folder.glob("data/*/prepare.code") if mark.parent.name not in plan.data)])


def prune(plan: Plan, root: Path = Path()) -> list[Path]:
    """Remove the strangers, and return them."""
    found = strangers(plan, root)
    for path in found:
        shutil.rmtree(path)
    return found


def _is_named(home: Path, name: str) -> bool:
    config = home / "config.yaml"
    return config.is_file() and f"\nname: {name}\n" in read_text(config)
