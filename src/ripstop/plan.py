"""The plan: every run of every study as files that say exactly what each of its stages depends on.

A stage is stale when one of its input files changed, and these files change only with what the stage really uses: the
resolved configuration, and a digest of the code below it. They travel with the results, so a fresh clone, a DVC
experiment and a cluster node all see the same truth (Snakemake's own record of parameters does not travel).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ripstop import provenance, yaml_file
from ripstop.config import ConfigError, Strict, explain, walk
from ripstop.files import write_if_different
from ripstop.params import Params

TRAIN = ["ripstop.training.train"]
EVALUATE = ["ripstop.studies.base"]
PRINT = ["ripstop.records", "ripstop.paper.render"]


@dataclass(frozen=True)
class Grid:
    """What the workflow has to make: the runs of each study, and the data that each run reads."""

    scale: str
    runs: dict[str, dict[str, str]]
    """study -> run -> id of its data"""

    @property
    def studies(self) -> list[str]:
        return list(self.runs)


def plan(params: Params, root: Path = Path("."), prune: bool = True) -> Grid:
    """The grid of the scale in force. Input files are written where they differ; with `prune`, what left the grid goes.

    Torch is imported only where params or code changed since the last plan: the outcome is kept in
    results/<scale>/plan.json under a digest of both.
    """
    folder = root / "results" / params.scale
    key = provenance.digest(json.dumps(params.model_dump(mode="json")) + provenance.source_key())
    memo = folder / "plan.json"
    found = _remembered(memo, key)
    if found is None:
        grid, files = _resolve(params)
        write_if_different(memo, json.dumps({"key": key, "grid": asdict(grid), "files": files}))
    else:
        grid, files = Grid(**found["grid"]), found["files"]
    for name, text in files.items():
        write_if_different(folder / name, text)
    if prune:
        _prune(folder, grid)
    return grid


def _remembered(memo: Path, key: str) -> dict[str, Any] | None:
    if not memo.is_file():
        return None
    try:
        found = json.loads(memo.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None
    return found if found.get("key") == key else None


def _resolve(params: Params) -> tuple[Grid, dict[str, str]]:
    """The grid, and every input file of its stages (path below results/<scale> -> text)."""
    from ripstop import studies  # imports torch

    for scale in params.scales:  # a mistake in any scale is told now, not on the cluster
        for name in params.studies:
            _runs(params, name, scale)
    runs: dict[str, dict[str, str]] = {}
    files: dict[str, str] = {}
    for name in params.studies:
        runs[name] = {}
        for run in _runs(params, name, params.scale):
            if run.name in runs[name]:
                raise ConfigError(f"params.yaml: studies.{name}: two runs are named {run.name}; remove the repeated value")
            runs[name][run.name] = run.data.id
            modules = _modules(run)
            home = f"{name}/runs/{run.name}"
            files |= {f"{home}/{file}": text for file, text in run.files().items()}
            files[f"{home}/train.code"] = provenance.code_digest([*modules, *TRAIN]) + "\n"
            below = [*modules, *TRAIN, *EVALUATE, studies.load(name).__name__]
            files[f"{home}/evaluate.code"] = provenance.code_digest(below) + "\n"
            home = f"{name}/data/{run.data.id}"
            files[f"{home}/config.yaml"] = yaml_file.dump(run.data.model_dump(mode="json"))
            files[f"{home}/prepare.code"] = provenance.code_digest(_modules(run.data)) + "\n"
        printing = provenance.code_digest([*PRINT, f"ripstop.paper.studies.{name}"])
        files[f"{name}/paper.code"] = f"{printing} {provenance.files_digest('paper/templates/*.j2')}\n"
    return Grid(params.scale, runs), files


def _runs(params: Params, name: str, scale: str) -> list[Any]:
    from ripstop import studies

    where = params.where(name, scale)
    study = studies.load(name)
    values = study.Params.parse(params.study(name, scale), where)
    try:
        return list(study.runs(values, scale))
    except ValidationError as error:  # values that are fine alone and do not fit together
        raise explain(error, where) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _modules(config: Strict) -> set[str]:
    """The modules whose code a configuration brings in: those of every configuration object inside it."""
    return {type(part).__module__ for part in walk(config)}


def _prune(folder: Path, grid: Grid) -> None:
    """Remove runs and data that no longer belong, so that a shrunk grid leaves what a clean run would."""
    for study, runs in grid.runs.items():
        _keep_only(folder / study / "runs", runs)
        _keep_only(folder / study / "data", set(runs.values()))


def _keep_only(folder: Path, names: Iterable[str]) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in names:
            shutil.rmtree(path)
