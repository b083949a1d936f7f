"""What `status` says of a scale: each study's runs, the jobs that would run, why and for how long."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ripstop import provenance
from ripstop.accepted import Accepted
from ripstop.plan import Plan
from ripstop.prune import strangers
from ripstop.status import causes, workflow
from ripstop.status.durations import Basis, Duration, Durations, left, longest_chain
from ripstop.status.planned import Planned
from ripstop.status.workflow import Job
from ripstop.training.lock import holder
from ripstop.watch.run import LOCK, look

MOVES_NO_NUMBER = "it shows what is stale"

State = Literal["fresh", "stale", "missing", "gone", "stopped", "running"]
STATES: tuple[State, ...] = ("fresh", "stale", "missing", "gone", "stopped", "running")
CHECKPOINT = re.compile(r"step-(\d+)-")
PAPER = {"assemble", "pdf", "publish"}
NAMELESS = ("all", "draft", "study_")
"""Beginnings of the names of rules that only name what is wanted."""


@dataclass(frozen=True)
class Run:
    """A run of the grid.

    fresh: nothing of it would run; stale: something that is there is made again; missing: something is not there yet; gone:
    something was removed, and as nothing needs it now, Snakemake leaves it so; stopped: its training goes on from `step`;
    running: it is trained now, and is at `step`.
    """

    study: str
    name: str
    state: State
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Pending:
    """A job that would run."""

    rule: str
    study: str
    name: str
    """The run with its part, the data or the choice; "" where the study or the rule says all."""
    causes: list[str]
    seconds: float
    basis: Basis


@dataclass(frozen=True)
class Status:
    """What there is to say. seconds: of all jobs together; wall: on `cores` cores, never less than the longest chain of jobs;
    unknown: how many jobs nothing is known of."""

    scale: str
    command: str
    runs: list[Run]
    jobs: list[Pending]
    seconds: float
    estimated: float
    unknown: int
    cores: int
    wall: float
    paper: list[str]
    """Why the paper would be put together again; nothing where it is up to date."""
    accepted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Folders that no longer belong to the grid."""
    executing: str = ""
    """Who executes the workflow now."""

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    def states(self, study: str) -> Counter[State]:
        return Counter(run.state for run in self.runs if run.study == study)


def status(plan: Plan, studies: list[str], named: bool) -> Status:
    """What the workflow would do at the plan's scale, in this folder; with `studies`, for those alone.

    named: the scale is another one than the parameters name, whose paper lies below its results and nowhere else.
    """
    targets = [f"study_{study}" for study in studies] or ["draft" if named else "all"]
    found = [job for job in workflow.would_run(plan.scale, targets) if not job.rule.startswith(NAMELESS)]
    cores = provenance.cpus()
    makers = {path: job.rule for job in found for path in job.outputs}
    why = [causes.causes(job, makers, plan) for job in found]
    by_run: dict[tuple[str, str], list[Job]] = {}
    for job in found:
        by_run.setdefault((job.study, job.run), []).append(job)
    shown = studies or plan.studies
    runs = [_run(plan, study, run, by_run.get((study, run), [])) for study in shown for run in plan.runs[study]]
    steps = {(run.study, run.name): run for run in runs}
    known = Durations(plan)
    times = [_time(known, job, steps) for job in found]
    taken = [threads(plan, job, cores) for job in found]
    total = sum(time.seconds for time in times)
    share = sum(time.seconds * n for time, n in zip(times, taken, strict=True)) / cores
    chain = longest_chain(found, {number: time.seconds for number, time in enumerate(times)})
    return Status(
        plan.scale,
        " ".join(workflow.command(plan.scale, targets, named)),
        runs,
        [
            Pending(job.rule, job.study, name(job), told, time.seconds, time.basis)
            for job, told, time in zip(found, why, times, strict=True)
        ],
        total,
        sum(time.seconds for time in times if time.basis == "estimated"),
        sum(time.basis == "unknown" for time in times),
        cores,
        max(share, chain),
        list(dict.fromkeys(cause for job, told in zip(found, why, strict=True) if job.rule in PAPER for cause in told)),
        Accepted.read().sentences(plan.scale, shown),
        [str(path) for path in strangers(plan) if not studies or path.parent.parent.name in studies],
        _executing(),
    )


def _run(plan: Plan, study: str, name: str, pending: list[Job]) -> Run:
    home = plan.folder() / study / "runs" / name
    if (home / LOCK).exists():
        watched = look(home)
        if watched.state in ("running", "silent"):
            return Run(study, name, "running", watched.step, watched.steps)
    if any(job.rule == "train" for job in pending) and (step := _checkpoint(plan, home)):
        return Run(study, name, "stopped", step, look(home).steps)
    if not pending:
        job = plan.runs[study][name]
        made = ["model.safetensors", "training.json"] * job.trains + [f"parts/{part}/records.jsonl" for part in job.parts]
        return Run(study, name, "fresh" if all((home / path).is_file() for path in made) else "gone")
    stale = any(set(job.missing) != set(job.outputs) for job in pending)
    return Run(study, name, "stale" if stale else "missing")


def _checkpoint(plan: Plan, home: Path) -> int:
    """The step from which a training would go on; 0 where none was stopped, or its settings or code are others by now."""
    if any(Planned(str(home / name), plan).differs for name in ("config.yaml", "train.code")):
        return 0
    steps = [CHECKPOINT.match(path.name) for path in (home / "checkpoints").glob("step-*")]
    return max((int(found[1]) for found in steps if found), default=0)


def _time(known: Durations, job: Job, runs: dict[tuple[str, str], Run]) -> Duration:
    time = known.of(job)
    run = runs.get((job.study, job.run)) if job.rule == "train" else None
    return left(time, run.step, run.steps) if run is not None else time


def threads(plan: Plan, job: Job, cores: int) -> int:
    """Cores that a job takes of those that there are; a measure of time takes them all."""
    run = plan.runs.get(job.study, {}).get(job.run)
    if run is None:
        return 1
    if job.rule == "train":
        return min(run.threads * run.processes // run.nodes, cores)
    part = run.parts.get(job.wildcards.get("part", ""))
    return cores if part is not None and part.exclusive else min(run.threads, cores)


def name(job: Job) -> str:
    about = job.wildcards
    return "/".join(about[key] for key in ("data", "run", "choice", "part") if key in about)


def _executing() -> str:
    owner = holder(Path(".snakemake/execution.lock"))
    return "" if owner is None else f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def grouped(jobs: Iterable[Pending]) -> list[tuple[str, list[str], int]]:
    """Rule, causes and number of the jobs that have them, in the order of their first."""
    counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for job in jobs:
        counts[job.rule, tuple(job.causes)] += 1
    return [(rule, list(told), n) for (rule, told), n in counts.items()]
