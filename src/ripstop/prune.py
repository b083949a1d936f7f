"""What left the grid: named first, and removed only where the user says so."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ripstop import yaml_file
from ripstop.config import ConfigError
from ripstop.plan import Plan
from ripstop.training.lock import Lock

MOVES_NO_NUMBER = "removes what no number comes from any more"


def strangers(plan: Plan, root: Path = Path()) -> list[Path]:
    """Folders of runs and of prepared data that an earlier plan made and that this one does not have.

    A folder that no plan made is none, nor is a link, nor a copy of a run or of data under a name of the user's own.
    """
    folder = plan.folder(root)
    runs = [mark.parent for mark in folder.glob("*/runs/*/train.code")]
    runs = [home for home in runs if home.name not in plan.runs.get(home.parent.parent.name, {}) and _is_run(home)]
    data = [mark.parent for mark in folder.glob("data/*/prepare.code")]
    data = [home for home in data if home.name not in plan.data and _is_data(home)]
    return sorted(home for home in [*runs, *data] if not home.is_symlink())


def prune(plan: Plan, root: Path = Path()) -> list[Path]:
    """Remove the strangers, and return them. Nothing is removed while one of them is trained."""
    from ripstop.training.train import LOCK  # imports torch

    found = strangers(plan, root)
    with ExitStack() as held:
        for path in found:
            held.enter_context(Lock(path / LOCK))
        for path in found:
            shutil.rmtree(path)
    return found


def _is_run(home: Path) -> bool:
    return _settings(home).get("name") == home.name


def _is_data(home: Path) -> bool:
    """The folder has the name that its settings give (`DataConfig.id`, which to import would take torch)."""
    values = _settings(home)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return home.name == f"{values.get('kind')}-{digest[:8]}"


def _settings(home: Path) -> dict[str, Any]:
    """What config.yaml says; nothing where it cannot be read, so that the folder stays."""
    try:
        return yaml_file.mapping(home / "config.yaml")
    except ConfigError:
        return {}
