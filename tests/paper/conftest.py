"""Records of every study, written once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from paper import made_up


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """study -> its records.jsonl."""
    return made_up.write(tmp_path_factory.mktemp("records"))
