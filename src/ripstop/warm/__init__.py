"""Commands in processes that have torch already: they begin in a tenth of a second instead of in two."""

from __future__ import annotations

import os

from ripstop.warm.client import VARIABLE

MOVES_NO_NUMBER = "it starts commands"


def on(folder: str) -> None:
    """What this process executes starts warm, with sockets in `folder`, unless the variable is there and empty."""
    if os.environ.get(VARIABLE) != "":
        os.environ[VARIABLE] = f"{folder}:{os.getpid()}"


def off() -> None:
    """What this process executes starts cold, whatever started it."""
    os.environ.pop(VARIABLE, None)
