"""A part that measures what other parts left: of its own run, or of another arm's run with the same seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ripstop.config import ConfigError
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.files import read_text
from ripstop.records import read_records

if TYPE_CHECKING:
    from ripstop.runs import Run


class DerivedConfig(PartConfig):
    """Settings of a part that runs no model of its own. Subclasses define `reads`."""

    def reads(self, run: Run) -> list[str]:
        """What it reads, which the workflow makes first: folders of parts below the study's `runs`, `<run>/parts/<part>`."""
        raise TypeError(f"{type(self).__name__}: a part that reads others has to define reads(self, run)")


def place(run: Run, part: str, arm: str | None = None) -> str:
    """Where a part of `run` lies below the study's `runs`, or that of another `arm` (`ratio-0`) with the same seed."""
    name = run.name if arm is None else f"{arm}_seed-{run.seed}"
    return f"{name}/parts/{part}"


def left_at(subject: Subject, where: str) -> Path:
    """The folder of a part that was measured; `ConfigError` where it was not, or on another model than lies there now."""
    folder = subject.folder.parent / where
    run, part = folder.parent.parent, folder.name
    again = f"run `python -m ripstop evaluate {run} --data {subject.data} --part {part}` first"
    if not (folder / "records.jsonl").is_file():
        raise ConfigError(f"{folder}: no records, and they are read here; {again}")
    models = {record.model for record in read_records(folder / "records.jsonl")}
    try:
        report = json.loads(read_text(run / "training.json")) if (run / "training.json").is_file() else {}
        model = str(report.get("model_sha256", ""))[:16]
    except (ValueError, AttributeError):
        raise ConfigError(f"{run / 'training.json'}: not a report of a training; train the run again") from None
    if models != {model}:
        raise ConfigError(f"{folder}: was measured on another model than {run / 'training.json'} describes; {again}")
    return folder
