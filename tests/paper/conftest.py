"""Records of every study, written once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from paper import made_up

from ripstop.paper.render import render_study


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """study -> its records.jsonl."""
    return made_up.write(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def rendered(records: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a folder of everything that the paper shows of each study."""
    folder = tmp_path_factory.mktemp("rendered")
    for study, path in records.items():
        render_study(study, path, folder / study, dropped=made_up.DROPPED.get(study, ()))
    return folder
