"""The commands `release` and `latexdiff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ripstop.command_options import Params, Scale

MOVES_NO_NUMBER = "it packs and compares what was printed"


def release(
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    out: Annotated[Path | None, typer.Option(help="The archive; none given: build/ripstop-<version>-<scale>.tar.gz.")] = None,
) -> None:
    """Pack the commit at hand and the rendered paper: one archive that draws it again without git, DVC or network."""
    from ripstop import params as parameters
    from ripstop.plan import plan
    from ripstop.release.archive import build

    path = build(plan(parameters.load(params, scale=scale)), out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def latexdiff(
    old: Annotated[Path, typer.Argument(help="An archive of `release`.")],
    new: Annotated[Path, typer.Argument(help="A later one.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("build/diff"),
) -> None:
    """Mark what changed in the paper between two released archives: diff.tex, and diff.pdf where LaTeX is installed."""
    from ripstop.release.difference import changed, difference

    print(difference(old, new, out))
    names = changed(old, new)
    print(f"tables and figures that differ: {', '.join(names)}" if names else "no table or figure differs")
