"""Options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MOVES_NO_NUMBER = "how commands are typed"

Params = Annotated[Path, typer.Option(help="The parameters' file.")]
Scale = Annotated[str | None, typer.Option(help="Scale in place of the file's own: smoke, cpu, h100.")]
Set = Annotated[list[str], typer.Option("--set", help="Overrides, e.g. studies.mqar_cliff.seeds=[0]. Several, repeatable.")]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the prepared data; none given: where the plan puts it.")]
