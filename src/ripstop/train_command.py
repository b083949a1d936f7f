"""The command `train`: a run of the grid, or one outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ripstop.command_options import Data, Params, Scale
from ripstop.config import ConfigError

MOVES_NO_NUMBER = "what it hands on is checked and recorded by the training"


def train(
    folder: Annotated[Path | None, typer.Argument(help="Folder of the run; none for a free run, which --study begins.")] = None,
    data: Data = None,
    set_: Annotated[
        list[str], typer.Option("--set", help="Overrides of the run, --set training.steps=9 seed=1. Repeatable.")
    ] = [],  # noqa: B006
    study: Annotated[str | None, typer.Option(help="Of a free run: the study whose data and settings it takes.")] = None,
    preset: Annotated[str | None, typer.Option(help="Of a free run: its model, e.g. base for <study>_base.")] = None,
    arm: Annotated[str | None, typer.Option(help="Of a free run: the arm of the study; none given: its first.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of a free run: its folder's name; none given: as preset and seed say.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Of a free run: what stands for results/free.")] = None,
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a free run: print what it comes to, and write nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait where another process trains the run: it is not refused.")] = False,
) -> None:
    """Train one run; resumes by itself where an earlier one was stopped.

    A run of the grid by its folder, or a free run: `train --study swa_mla --preset base --set training.batch_size=8
    data.block_size=2048` writes results/free/swa_mla/runs/<name>, prepares its data beside it, and trains.
    training.batch_size is the rows of an update: it sets training.tokens_per_step to batch_size x data.block_size.
    Under torchrun rank 0 writes and prepares, and the others wait for it.
    """
    from ripstop.allocator import keep_freed_memory

    own = {"--preset": preset, "--arm": arm, "--name": name, "--out": out, "--scale": scale, "--dry-run": dry_run or None}
    if (folder is None) == (study is None):
        raise ConfigError("train: name the folder of a run, or by --study the study of a free run, and one of the two")
    keep_freed_memory()
    if study is not None:
        from ripstop import free_run

        free = free_run.resolve(study, preset, arm, params, scale, set_, name, out, data)
        if dry_run:
            from ripstop.dry_run import described

            free_run.say(described(free).removesuffix("\n"))
        if dry_run or not free_run.make_ready(free):
            return
        folder, data, set_ = free.folder, free.data, []
    elif told := [option for option, value in own.items() if value is not None]:
        raise ConfigError(f"train {folder}: {told[0]} is of a free run, which --study begins; remove it")
    assert folder is not None
    from ripstop.runs import prepared_data
    from ripstop.training.train import train as train_run

    prepared = prepared_data(folder, data)
    if not wait:
        train_run(folder, prepared, set_)
        return
    from ripstop.turns import in_turn

    in_turn(folder, prepared, lambda: train_run(folder, prepared, set_))
