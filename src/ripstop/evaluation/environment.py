"""env.json of a part of an evaluation: what it stood on, as a training's says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ripstop.files import write_text
from ripstop.runs import Run
from ripstop.training.environment import ENVIRONMENT, environment
from ripstop.training.precision import prepare_device

MOVES_NO_NUMBER = "says what an evaluation stood on"


@contextmanager
def kept(folder: Path, part: str) -> Iterator[None]:
    """What stands when the block begins is written beside the part's records when it has ended well."""
    found = environment(prepare_device(Run.load(folder, parts=[part]).compute))
    yield
    write_text(folder / "parts" / part / ENVIRONMENT, json.dumps(found, indent=1) + "\n")
