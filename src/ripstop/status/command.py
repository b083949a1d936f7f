"""The command `status`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ripstop.command_options import Scale
from ripstop.config import ConfigError, nearest

MOVES_NO_NUMBER = "it shows what is stale"


def status(
    study: Annotated[list[str], typer.Option(help="Say it of this study alone. Repeatable.")] = [],  # noqa: B006
    scale: Scale = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    long: Annotated[bool, typer.Option("--long", help="Name every job, and every run that is not fresh.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit status 1 where anything would run.")] = False,
) -> None:
    """Say which results are stale, what made them so, what would run and for how long. Nothing is written.

    Snakemake's own dry run decides, in the root of the checkout. Exit status 0 where it could look, with --check 1 where
    anything would run.
    """
    from ripstop import ending
    from ripstop import params as parameters
    from ripstop.plan import plan
    from ripstop.status.report import status as look

    if not Path("Snakefile").is_file():
        raise ConfigError("Snakefile: no such file; run `status` in the root of the checkout")
    own = parameters.load(Path("params.yaml")).scale
    grid = plan(parameters.load(Path("params.yaml"), scale=scale))
    for name in study:
        if name not in grid.studies:
            raise ConfigError(f"--study {name}: no such study{nearest(name, grid.studies)}")
    found = look(grid, list(dict.fromkeys(study)), grid.scale != own)
    if as_json:
        ending.put(found.json())
    else:
        from rich.console import Console

        from ripstop.status.screen import Screen

        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=10_000, file=sys.stdout)
        console.print(Screen(found, long))
    raise typer.Exit(int(check and bool(found.jobs)))
