"""The made-up checkout, made once and copied for each test that changes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from verify import tree

from ripstop.files import read_text
from ripstop.paper.numbers import StudyNumbers
from ripstop.paper.render import render_study
from ripstop.verify import rendered

PAPER = Path(__file__).parents[2] / "paper"


@pytest.fixture(scope="session", autouse=True)
def _printers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from tree.printers(tmp_path_factory.mktemp("printers"))


@pytest.fixture(scope="session", autouse=True)
def _each_drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same records are printed once for all tests: drawing takes a second, and most tamperings leave them alone."""
    places: dict[tuple[str, str], tuple[Path, StudyNumbers]] = {}

    def once(study: str, records: Path, out: Path, *rest: Any) -> StudyNumbers:
        key = (study, read_text(records))
        if key not in places:
            place = tmp_path_factory.mktemp("drawn") / "out"
            places[key] = place, render_study(study, records, place, *rest)
        shutil.copytree(places[key][0], out)
        return places[key][1]

    rendered.render_study = once
    yield
    rendered.render_study = render_study


@pytest.fixture(scope="session")
def made(_printers: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree.make(tmp_path_factory.mktemp("made") / "checkout", (PAPER / "main.tex").read_text())


@pytest.fixture
def checkout(made: Path, tmp_path: Path) -> Path:
    """A copy to be tampered with."""
    return Path(shutil.copytree(made, tmp_path / "checkout"))
