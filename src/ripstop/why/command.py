"""The command `why`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ripstop.command_options import Params, Scale

MOVES_NO_NUMBER = "it tells what lies there"


def why(
    name: Annotated[str, typer.Argument(help="study.number, a claim, figures/NAME, tables/NAME, or tables/NAME:ROW:COLUMN.")],
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Name every record, and every run with its files.")] = False,
) -> None:
    """Say what a printed number, figure, table cell or verdict rests on, from its method to the runs. Nothing is written."""
    from ripstop import ending
    from ripstop.why.answer import why as ask
    from ripstop.why.paper import Paper

    if scale is None:
        from ripstop import yaml_file

        scale = str(yaml_file.mapping(params).get("scale"))
    answer = ask(Paper(scale), name)
    if as_json:
        ending.put(answer.json())
        return
    from rich.console import Console

    from ripstop.why.screen import Screen

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000, file=sys.stdout)
    console.print(Screen(answer, everything))
