"""Why a job would run, in words: which setting, code, file or earlier job made what it left stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ripstop import code_history
from ripstop.plan import Plan
from ripstop.status.planned import Planned, values
from ripstop.status.workflow import Job

MOVES_NO_NUMBER = "it shows why results are stale"

ABSENT = object()
NOT_MADE = "not there"
UPSTREAM = {
    "prepare": "its data are prepared again",
    "train": "its model is trained again",
    "choose": "its settings are chosen again",
    "evaluate": "what it reads is measured again",
    "collect": "its records are collected again",
    "render": "a study is printed again",
    "assemble": "the paper is put together again",
    "pdf": "the PDF is made again",
}
"""Rule -> what its job means for one that reads what it makes."""
CODE = {"train": "the training", "prepare": "the data", "choose": "the choice", "paper": "what is printed"}
SAID = {
    "Set of input files has changed since last execution": "it reads other files than before",
    "Code has changed since last execution": "its command in the workflow changed",
    "Params have changed since last execution": "its arguments in the workflow changed",
    "Software environment definition has changed since last execution": "its environment changed",
}
"""What Snakemake says, and the same in our words."""


def causes(job: Job, makers: dict[str, str], plan: Plan, root: Path = Path()) -> list[str]:
    """Every cause of a job, the deepest first: what the user changed, then what is made again before it.

    makers: file -> rule of the job that would make it.
    """
    if job.missing and set(job.missing) == set(job.outputs):
        return [NOT_MADE]
    found = dict.fromkeys(f"{path} is missing" for path in _short(job.missing, job))
    for path in job.inputs:
        if path not in makers:
            file = Planned(path, plan, root)
            if path in job.updated or file.differs:  # where an earlier job runs, Snakemake looks no further
                found |= dict.fromkeys(_changed(file))
    others = [sentence.partition(": ")[0] for sentence in job.other]
    if not found or others != ["Set of input files has changed since last execution"]:  # which follows from any other cause
        found |= dict.fromkeys(SAID.get(words, words[:1].lower() + words[1:]) for words in others)
    again = dict.fromkeys(makers[path] for path in sorted(job.remade) if path in makers)
    return [*found, *(UPSTREAM.get(rule, f"{rule} runs again") for rule in again)]


def _short(paths: tuple[str, ...], job: Job) -> Iterator[str]:
    """Paths as one says them of the job: a file in the folder of its run by its name."""
    home = f"{Path(job.outputs[0]).parent}/" if job.run else ""
    return (path.removeprefix(home) for path in sorted(paths))


def _changed(file: Planned) -> list[str]:
    """What changed in an input file: between what lies there and the plan, where the plan writes it."""
    lying, planned, name = file.lying, file.planned, file.path.name
    if planned is None:
        made = file.path.parts[0] == "results" and len(file.path.parts) > 2
        return [f"{file.path.parent} holds something newer" if made else f"{file.path} changed"]
    if lying is None:
        return [f"{name} is missing"]
    if lying == planned:  # an execution wrote it, and ended before the job did
        return [f"{name} is newer than what was made with it"]
    if name.endswith(".code"):
        return [_code(file.path.stem, lying.split(), planned.split())]
    if name.endswith(".json"):
        return [f"{path} changed" for path in _differing(lying, planned)] or [f"{name} changed"]
    prefix = "" if name == "config.yaml" else f"evaluation.{file.path.stem}."
    return [f"{prefix}{change}" for change in settings(lying, planned)] or [f"{name} changed"]


def settings(lying: str, planned: str) -> list[str]:
    """Each setting that differs, `training.steps 600 -> 700`."""
    try:
        before, now = flat(values(lying)), flat(values(planned))
    except ValueError:
        return []
    keys = [
        key for key in [*before, *(key for key in now if key not in before)] if before.get(key, ABSENT) != now.get(key, ABSENT)
    ]
    return [f"{key} {_shown(before.get(key, ABSENT))} -> {_shown(now.get(key, ABSENT))}" for key in keys]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, of every value that is no mapping; a list is one value."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def _code(stage: str, lying: list[str], planned: list[str]) -> str:
    """Which modules changed, where this machine has seen both digests."""
    about = f"code of {CODE.get(stage, stage)}"
    if lying[1:] != planned[1:] and lying[:1] == planned[:1]:
        return "a template of the paper changed"
    modules = code_history.changed(lying[0], planned[0]) if lying and planned else []
    if not modules:
        return f"{about} changed"
    more = f" and {len(modules) - 3} more" if len(modules) > 3 else ""
    return f"{about} changed: {', '.join(modules[:3])}{more}"


def _differing(lying: str, planned: str) -> list[str]:
    """The files of two listings with another digest, or in one of them alone."""
    try:
        before, now = json.loads(lying), json.loads(planned)
        return sorted(path for path in before | now if before.get(path) != now.get(path))
    except (ValueError, TypeError, AttributeError):
        return []


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "(not there)"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
