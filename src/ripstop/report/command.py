"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ripstop.command_options import Params, Scale

MOVES_NO_NUMBER = "it shows what was printed"


def report(
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; none given: build/report-<scale>.")] = None,
) -> None:
    """Write report.html: figures, tables, claims, runs, loss curves and samples, and what each number rests on.

    One file, which opens without a network and can be searched. Nothing is trained or rendered.
    """
    from ripstop import params as parameters
    from ripstop.plan import plan
    from ripstop.report.build import build

    grid = plan(parameters.load(params, scale=scale))
    path, sentences = build(grid, out)
    for sentence in sentences:
        print(sentence)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
