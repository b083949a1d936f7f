"""What lies with the runs alone, where they were made or fetched: how trainings ended, losses, samples, selection pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ripstop.config import ConfigError
from ripstop.files import read_text
from ripstop.report.drawing import Points, data_address
from ripstop.watch.run import look

MOVES_NO_NUMBER = "it shows what others wrote"

TEXTS = {
    "translations.jsonl": ("document", "source", "hypothesis", "reference"),
    "samples.jsonl": ("prompt", "continuation", "reference"),
    "answers.jsonl": ("question", "prompt", "gold", "written"),
}
"""Files of a part that hold texts which a model wrote, and what is shown of their rows."""
WRITTEN = {"hypothesis", "continuation", "written"}
MOST_ROWS = 5
SELECTION = "selection.png"


@dataclass(frozen=True)
class Texts:
    """What a run wrote in a part of its evaluation: the first rows."""

    run: str
    part: str
    columns: tuple[str, ...]
    rows: list[list[str]]


@dataclass(frozen=True)
class Beside:
    """Of one run. ended: `finished`, `diverged at step 40`, ...; "" where its training does not lie here.

    losses: kind of series -> points. picture: the address of what it selects; "" where none was drawn.
    """

    ended: str = ""
    losses: dict[str, Points] = field(default_factory=dict)
    texts: list[Texts] = field(default_factory=list)
    picture: str = ""


def beside(folder: Path) -> Beside:
    """What lies in the folder of a run."""
    if not folder.is_dir():
        return Beside()
    watched = look(folder)
    ended = "" if watched.state == "not started" else f"{watched.state} {watched.why}".strip()
    losses = {"training": watched.series("loss"), "held-out": watched.series("validation_loss")}
    picture = folder / SELECTION
    return Beside(
        ended,
        {kind: points for kind, points in losses.items() if points},
        list(_texts(folder)),
        data_address(picture.read_bytes(), "image/png") if picture.is_file() else "",
    )


def _texts(folder: Path) -> Iterator[Texts]:
    for file in sorted(folder.glob("parts/*/*.jsonl")):
        columns = TEXTS.get(file.name, ())
        rows = [[str(row.get(column, "")) for column in columns] for row in _rows(file) if _writes(row)] if columns else []
        if rows:
            yield Texts(folder.name, file.parent.name, columns, rows[:MOST_ROWS])


def _writes(row: dict[str, Any]) -> bool:
    return any(row.get(column) is not None for column in WRITTEN)


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        return [dict(json.loads(line)) for line in read_text(file).split("\n") if line]
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file}: holds a line that is no JSON object; evaluate the run again") from None
