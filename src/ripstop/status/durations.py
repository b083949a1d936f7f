"""How long jobs take: as measured when they last ran, else estimated from others like them."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from ripstop.files import object_if_any
from ripstop.plan import Plan
from ripstop.status.planned import values
from ripstop.status.workflow import Job

MOVES_NO_NUMBER = "it shows how long the workflow takes"

SEED = re.compile(r"_?(seed|candidate)-\d+")
ENDED = re.compile(r"exit status 0 after (\d+) s$")
Basis = Literal["measured", "estimated", "unknown"]


@dataclass(frozen=True)
class Duration:
    """Seconds of a job, and where they come from; `unknown` says nothing of them and counts as none."""

    seconds: float
    basis: Basis


class Durations:
    """What is known of a scale: Snakemake's benchmark of each job that ran, or its log, and the report of each training."""

    def __init__(self, plan: Plan, root: Path = Path()):
        self._plan, self._folder = plan, plan.folder(root)
        self._own: dict[tuple[str, str, str], float] = {}
        """(study or `data`, run or data, stage) -> seconds"""
        self._like: dict[tuple[str, ...], list[float]] = defaultdict(list)
        """The same of those that are alike, from the most alike on: (study, arm, stage), (study, stage), (stage,)"""
        self._rates: dict[str, list[float]] = defaultdict(list)
        """Study, or "" for all -> seconds of a training for each FLOP of its work"""
        benchmarks, logs = self._folder / "benchmarks", self._folder / "logs"
        for path in sorted(benchmarks.rglob("*.tsv")):
            if (seconds := _benchmark(path)) is not None:
                self._keep(*_stage(path.relative_to(benchmarks)), seconds)
        for path in sorted([*logs.glob("*/choices/*.log"), *logs.glob("paper/*.log")]):  # rules without a benchmark
            if (seconds := _logged(path)) is not None:
                self._keep(*_stage(path.relative_to(logs)), seconds)

    def of(self, job: Job) -> Duration:
        """How long it took with the settings that it has now; else what those like it took; else what its work comes to."""
        study, run, stage = place(job)
        trains = job.rule == "train"
        if (own := self._own.get((study, run, stage))) is not None:
            grown = self._grown(study, run) if trains else 1.0
            return Duration(own * grown, "measured" if grown == 1 else "estimated")
        alike = self._like.get((study, SEED.sub("", run), stage), [])
        if trains and not alike:
            rates, unit = self._rates.get(study) or self._rates.get("", []), self._plan.runs[study][run].work
        else:
            rates, unit = alike or self._like.get((study, stage)) or self._like.get((stage,), []), 1
        return Duration(unit * mean(rates), "estimated") if rates else Duration(0.0, "unknown")

    def _keep(self, study: str, run: str, stage: str, seconds: float) -> None:
        if stage == "train" and run in self._plan.runs.get(study, {}):
            seconds += self._before(study, run)
            if (work := self._plan.runs[study][run].work) and self._grown(study, run) == 1:
                self._rates[study].append(seconds / work)
                self._rates[""].append(seconds / work)
        self._own[study, run, stage] = seconds
        for alike in ((study, SEED.sub("", run), stage), (study, stage), (stage,)):
            self._like[alike].append(seconds)

    def _before(self, study: str, run: str) -> float:
        """Seconds of a training before it was resumed, of which its benchmark does not know."""
        found = object_if_any(self._folder / study / "runs" / run / "training.json").get("seconds_before", 0.0)
        return float(found) if isinstance(found, int | float) and 0 <= found < math.inf else 0.0

    def _grown(self, study: str, run: str) -> float:
        """By how much the steps and tokens of a training are more than when it last ran, as its folder says."""
        name = f"{study}/runs/{run}/config.yaml"
        planned = self._plan.files.get(name, "")
        with suppress(OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            lying = (self._folder / name).read_text(encoding="utf-8")
            return 1.0 if lying == planned else _tokens(planned) / _tokens(lying)
        return 1.0


def left(duration: Duration, step: int, steps: int) -> Duration:
    """What is left of a training that goes on from `step`."""
    return Duration(duration.seconds * (1 - step / steps), "estimated") if 0 < step < steps else duration


def longest_chain(jobs: Iterable[Job], seconds: dict[int, float]) -> float:
    """Seconds of the longest sequence of jobs of which each needs the one before. `jobs` in an order in which they can run;
    seconds: by their place in it."""
    ends: dict[str, float] = {}
    longest = 0.0
    for number, job in enumerate(jobs):
        end = max((ends.get(path, 0.0) for path in job.inputs), default=0.0) + seconds[number]
        ends |= dict.fromkeys(job.outputs, end)
        longest = max(longest, end)
    return longest


def place(job: Job) -> tuple[str, str, str]:
    """Study (or `data`, `paper`), run (or data, `choices`) and stage of a job, as its benchmark file has them."""
    about = job.wildcards
    if job.rule == "prepare":
        return "data", about["data"], "prepare"
    if job.rule == "choose":
        return about["study"], "choices", about["choice"]
    return about.get("study", "paper"), about.get("run", ""), about.get("part", job.rule)


def _stage(path: Path) -> tuple[str, str, str]:
    """The same of a file below the folder of benchmarks, or of logs."""
    first, *between, last = path.with_suffix("").parts
    return (first, last, "prepare") if first == "data" else (first, "/".join(between), last)


def _benchmark(path: Path) -> float | None:
    """Wall time in seconds of one of Snakemake's benchmark files; None where it says none."""
    with suppress(OSError, ValueError, TypeError, KeyError, StopIteration, csv.Error):
        seconds = float(next(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))["s"])
        return seconds if 0 <= seconds < math.inf else None
    return None


def _logged(path: Path) -> float | None:
    """Seconds that `workflow/scripts/logged` noted at the end of a log, of a command that ended well."""
    with suppress(OSError, IndexError):
        found = ENDED.search(path.read_text(encoding="utf-8", errors="replace").splitlines()[-1])
        return float(found[1]) if found else None
    return None


def _tokens(text: str) -> float:
    training = values(text)["training"]
    return float(training["steps"]) * float(training["tokens_per_step"])
