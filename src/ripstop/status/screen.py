"""A status in a terminal; the same as plain text where the output is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ripstop.status.report import STATES, Pending, Status, grouped

MOVES_NO_NUMBER = "it shows what is stale"

STYLES = {
    "fresh": "green",
    "stale": "bold yellow",
    "missing": "yellow",
    "gone": "bold red",
    "stopped": "magenta",
    "running": "bold green",
}
MOST = 8
"""Causes of a study that are named without `--long`."""


class Screen:
    """long: every run that is not fresh, and every job, by name."""

    def __init__(self, status: Status, long: bool = False):
        self.status, self.long = status, long

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        status = self.status
        head = f"scale {status.scale}: what `{status.command}` would do"
        parts: list[RenderableType] = [Text(head, style="bold", overflow="fold"), Text(), _studies(status)]
        for title, pending in _by_study(status):
            parts += [Text(), Text(title, style="bold"), *(_line(text) for text in _why(pending, self.long))]
        if self.long and (unfinished := [run for run in status.runs if run.state != "fresh"]):
            parts += [Text(), Text("runs", style="bold")]
            parts += [
                Text.assemble("  ", (run.state, STYLES[run.state]), f"{_step(run.step, run.steps)}  {run.study}/{run.name}")
                for run in unfinished
            ]
        parts += [Text(), *(Text(sentence, overflow="fold") for sentence in _sentences(status))]
        yield Group(*parts)


def _studies(status: Status) -> Table:
    """A line a study: how many of its runs are in which state, and the jobs of it that would run."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("study", no_wrap=True)
    there = [state for state in STATES if any(run.state == state for run in status.runs)]
    for name in ("runs", *there):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("would run", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for study in dict.fromkeys(run.study for run in status.runs):
        counts = status.states(study)
        jobs = [job for job in status.jobs if job.study == study]
        cells = [Text(str(counts[state]) if counts[state] else "", style=STYLES[state]) for state in there]
        table.add_row(study, str(counts.total()), *cells, _rules(jobs), _time(jobs))
    return table


def _by_study(status: Status) -> Iterator[tuple[str, list[Pending]]]:
    titles = dict.fromkeys(job.study for job in status.jobs)
    for study in sorted(titles, key=lambda name: name == ""):  # what is for all studies last
        found = [job for job in status.jobs if job.study == study]
        yield study or "data and paper", found


def _why(jobs: list[Pending], long: bool) -> Iterator[str]:
    """A line for each group of jobs that have the same causes."""
    if long:
        for job in jobs:
            seconds = duration(job.seconds) if job.basis != "unknown" else "unknown"
            yield f"{job.rule} {job.name}: {'; '.join(job.causes) or 'Snakemake says no more'} ({seconds}, {job.basis})"
        return
    groups = grouped(jobs)
    for rule, causes, n in groups[:MOST]:
        yield f"{n} {rule}: {'; '.join(causes) or 'Snakemake says no more'}"
    if len(groups) > MOST:
        yield f"{sum(n for _, _, n in groups[MOST:])} more jobs for {len(groups) - MOST} other reasons: --long names all"


def _line(text: str) -> Text:
    return Text(f"  {text}", overflow="fold")


def _sentences(status: Status) -> Iterator[str]:
    if status.jobs:
        parts = (
            [f"{duration(status.seconds - status.estimated)} as measured before"] if status.seconds > status.estimated else []
        )
        parts += [f"{duration(status.estimated)} estimated from others"] if status.estimated else []
        parts += [f"{status.unknown} jobs of unknown length"] if status.unknown else []
        cores = f"{status.cores} cores" if status.cores > 1 else "one core"
        wall = f"; about {duration(status.wall)} on the {cores} here" if status.seconds else ""
        yield f"{len(status.jobs)} jobs, {', '.join(parts)}{wall}"
    else:
        yield "nothing is stale"
    if status.paper:
        yield f"the paper is not up to date: {'; '.join(status.paper)}"
    elif not status.jobs:
        yield "the paper is up to date"
    yield from status.accepted
    if gone := [run for run in status.runs if run.state == "gone"]:
        yield (
            f"{len(gone)} runs have lost files that nothing needs now, such as {gone[0].study}/{gone[0].name}; "
            "`snakemake` with such a file as its target makes it again, `workflow/scripts/restore` fetches it"
        )
    if status.left:
        more = f" and {len(status.left) - 1} more" if len(status.left) > 1 else ""
        yield f"left the grid: {status.left[0]}{more}; `python -m ripstop prune` names and removes them"
    if status.executing:
        yield f"the workflow is being executed by {status.executing}; what that has not made yet is counted here"


def _rules(jobs: list[Pending]) -> str:
    counts = Counter(job.rule for job in jobs)
    return ", ".join(f"{n} {rule}" for rule, n in counts.items())


def _time(jobs: list[Pending]) -> str:
    """Of all jobs together; `~` where some of it is estimated, `+` where some of it is unknown."""
    if not jobs:
        return ""
    bases = {job.basis for job in jobs}
    if bases == {"unknown"}:
        return "unknown"
    return f"{'~' * ('estimated' in bases)}{duration(sum(job.seconds for job in jobs))}{'+' * ('unknown' in bases)}"


def _step(step: int, steps: int) -> str:
    return f" at step {step:,}/{steps:,}" if steps else f" at step {step:,}" if step else ""


def duration(seconds: float) -> str:
    """`8 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
