"""Records of every study, written once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from filelock import FileLock
from paper import made_up

from ripstop.paper.render import render_study


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """study -> its records.jsonl."""
    return made_up.write(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def rendered(records: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a folder of everything that the paper shows of each study. It takes a minute, so that workers share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rendered"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            begun = tmp_path_factory.mktemp("rendering")
            for study, path in records.items():
                render_study(study, path, begun / study, dropped=made_up.DROPPED.get(study, ()))
            begun.rename(folder)
    return folder
