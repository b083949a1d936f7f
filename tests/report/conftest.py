"""A made-up checkout from runs to the published paper, and its report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from verify import tree

PAPER = Path(__file__).parents[2] / "paper"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from tree.made_with_printers(tmp_path_factory.mktemp("made"), (PAPER / "main.tex").read_text(encoding="utf-8"))


@pytest.fixture
def checkout(made: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(made, tmp_path / "checkout"))
