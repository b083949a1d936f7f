"""The settings that an arm chooses on held-out data: its candidates are trained alike, and the lowest held-out loss wins.

A candidate is a run of its own, with a seed that no measured run has; what is chosen lies in choices/<choice>.json beside
the study's runs, and every seed of the arm trains with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ripstop import provenance, yaml_file
from ripstop.config import ConfigError, Strict
from ripstop.files import read_text, write_text
from ripstop.records import Scalar


class Candidate(Strict):
    """One that was tried. loss: held-out loss of the model that its training kept; None where it diverged."""

    run: str
    settings: dict[str, Scalar]
    loss: float | None


class Choice(Strict):
    """settings: dotted key of a run -> value, those of the best candidate."""

    settings: dict[str, Scalar] = Field(min_length=1)
    candidates: list[Candidate] = Field(min_length=1)


def choose(folders: Sequence[Path], out: Path) -> Choice:
    """Compare the trained candidates in `folders` and write the choice. Of equal losses the first one wins.

    `ConfigError` where a candidate is another choice's, is not trained, was never measured on held-out data, or where none
    is finite.
    """
    candidates = [_candidate(Path(folder), Path(out).stem) for folder in folders]
    if not candidates:
        raise ConfigError(f"{out}: there is no candidate to choose from; name some by choice.settings")
    losses = [math.inf if one.loss is None else one.loss for one in candidates]
    if min(losses) == math.inf:
        raise ConfigError(f"{out}: none of {len(candidates)} candidates has a finite held-out loss; offer smaller training.lr")
    choice = Choice(settings=candidates[losses.index(min(losses))].settings, candidates=candidates)
    write_text(out, choice.model_dump_json(indent=1) + "\n")
    return choice


def chosen(run_dir: Path, name: str) -> Choice:
    """The choice called `name` of the study whose run lies in `run_dir`."""
    path = Path(run_dir).parent.parent / "choices" / f"{name}.json"
    again = "let the workflow train its candidates (`snakemake` with this file as the target)"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file, and the run takes settings from it; {again}")
    try:
        return Choice.parse(json.loads(read_text(path)), str(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no choice ({error}); delete it and {again}") from None


def apply(values: dict[str, Any], settings: Mapping[str, Scalar]) -> dict[str, Any]:
    """The values of a run with `settings` in their places."""
    return yaml_file.override(values, [f"{key}={json.dumps(value)}" for key, value in settings.items()], "the run")


def resolved(run_dir: Path, hint: str = "") -> str:
    """Text of the run's config.yaml; of one that takes settings from a choice, with the settings that were chosen.

    A model is known by it: under another choice it is another model. hint: what to do where there is no such file.
    """
    values = yaml_file.mapping(run_dir / "config.yaml", hint)
    if not values.get("choice") or values.get("settings"):
        return read_text(run_dir / "config.yaml")
    return yaml_file.dump(apply(values, chosen(run_dir, str(values["choice"])).settings))


def _candidate(folder: Path, choice: str) -> Candidate:
    path, config = folder / "training.json", folder / "config.yaml"
    told = yaml_file.mapping(config)
    settings = told.get("settings")
    if not settings or told.get("choice") != choice:
        raise ConfigError(f"{config}: is no candidate for the choice {choice!r}; name the folders that the plan lists for it")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file, the candidate is not trained; run the workflow")
    try:
        report = json.loads(read_text(path))
        kept, trained = report["kept"], report["identity"]["configuration"]
        diverged = report["outcome"] == "diverged"
        loss = None if diverged else kept["validation_loss"] if kept["which"] == "best" else report["validation"][-1]["loss"]
        candidate = Candidate.parse({"run": folder.name, "settings": settings, "loss": loss}, str(path))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise ConfigError(f"{path}: holds no held-out loss; delete it and train the candidate again") from None
    if trained != provenance.digest(read_text(config)):
        raise ConfigError(f"{path}: is of another configuration than the candidate has now; train the candidate again")
    return candidate
