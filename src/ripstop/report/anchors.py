"""Where in the page a printed name stands: `report.html#<anchor>`."""

from __future__ import annotations

import re

MOVES_NO_NUMBER = "it names places in a page"


def anchor(name: str) -> str:
    """The name that `why` takes, with `_` for each blank: an identifier of HTML holds none."""
    return re.sub(r"\s", "_", name)


def run_anchor(study: str, run: str) -> str:
    """Of a run's row."""
    return f"run:{study}/{run}"
