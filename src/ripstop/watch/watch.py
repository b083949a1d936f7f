"""The command `watch`: a picture of trainings, once, or again every few seconds until they end or Ctrl-C."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from ripstop.watch.run import ENDED, Watched, find, look
from ripstop.watch.screen import Picture, Pictures

MOVES_NO_NUMBER = "it shows what others wrote"


def watch(folder: Path, once: bool = False, every: float = 2.0, console: Console | None = None) -> None:
    """Show the trainings of `folder`. Where the output is no terminal, once. `ConfigError` where there is none.

    every: seconds between two looks.
    """
    console = console or Console(highlight=False)
    watched = _look(folder)
    if once or not console.is_terminal:
        console.print(_picture(watched))
        return
    try:
        with Live(_picture(watched), console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while not all(one.state in ENDED for one in watched):
                time.sleep(every)
                watched = _look(folder)
                live.update(_picture(watched), refresh=True)
    except KeyboardInterrupt:
        return  # the last picture stays


def _look(folder: Path) -> list[Watched]:
    return [look(run) for run in find(folder)]


def _picture(watched: list[Watched]) -> RenderableType:
    return Picture(watched[0]) if len(watched) == 1 else Pictures(watched)
