"""state_tracking in the paper: accuracy against length, a panel a task, a curve an architecture."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, by_common_seed, difference_interval, mean_interval

TASKS = {
    "parity": "parity",
    "s3": "composition in S3",
    "s5": "composition in S5",
    "copying": "selective copying",
    "chains": "chains of pointers",
}
LABELS = {
    "attention": "attention",
    "mamba2": "Mamba-2",
    "gated_delta_below_1": "Gated DeltaNet, beta below 1",
    "gated_delta": "Gated DeltaNet, beta below 2",
    "kda": "Kimi Delta Attention, beta below 2",
    "mamba3": "Mamba-3",
}
NAMED = {
    "parity": tuple(LABELS),
    "s3": ("gated_delta_below_1", "gated_delta", "mamba3"),
    "s5": ("attention", "gated_delta"),
    "copying": ("attention", "mamba2", "gated_delta", "mamba3"),
    "chains": ("attention", "mamba2"),
}
"""Task -> the architectures of which it prints numbers."""
TIMES = {"1x": 1.0, "2x": 2.0, "4x": 4.0}
"""Lengths as multiples of the longest that was trained on."""
ONE_HOP = 1 / 2
"""Of the longest chain that was trained on, which takes two."""

ARMS = {"task": tuple(TASKS), "architecture": tuple(LABELS)}
NUMBERS = (
    *(f"{task}_{architecture}_{times}" for task, named in NAMED.items() for architecture in named for times in TIMES),
    *(f"{task}_best_{times}" for task in TASKS for times in TIMES),
    *(f"chance_{task}" for task in TASKS),
    "chains_best_one_hop",
    "s3_reflections_gain",
    "wrong_minus_chance",
    "n_runs",
)


def printed_times(task: str) -> list[float]:
    """The multiples at which a task has to be tested."""
    return [*([ONE_HOP] if task == "chains" else []), *TIMES.values()]


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Accuracy at one, two and four times the longest row of the training, by task and architecture.

    ..._best_...: of the best architecture, seed by seed; an upper reading, since it is picked by what it prints.
    s3_reflections_gain: on S3 at the length of the training, of the delta rule whose beta reaches 2 less that whose beta stays
    below 1, paired by seed.
    wrong_minus_chance: accuracy with another example's row at the length of the training less that of guessing, a mean over
    tasks and architectures.
    """
    return {
        **{
            f"{task}_{architecture}_{name}": _accuracy(records, task, architecture, times)
            for task, named in NAMED.items()
            for architecture in named
            for name, times in TIMES.items()
        },
        **{f"{task}_best_{name}": _best(records, task, times) for task in TASKS for name, times in TIMES.items()},
        **{f"chance_{task}": _chance(records, task) for task in TASKS},
        "chains_best_one_hop": _best(records, "chains", ONE_HOP),
        "s3_reflections_gain": _reflections_gain(records),
        "wrong_minus_chance": mean_interval(_wrong_minus_chance(records)),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Accuracy against length, a panel a task, a curve an architecture; the dashed line is chance."""
    tasks = list(_tasks(records))
    looks = style.looks(list(LABELS))
    fig = style.figure(columns=2, height=3.7)
    panels = fig.subplots(2, 3).flatten()
    labelled: set[str] = set()
    for ax, task in zip(panels, tasks, strict=False):
        of_task = records.only(task=task, control="own")
        lengths = of_task.values("length")
        for architecture in _architectures(records, task):
            curve = [of_task.mean("accuracy", architecture=architecture, length=length) for length in lengths]
            label = "" if architecture in labelled else LABELS[architecture]
            plots.curve_with_interval(ax, lengths, curve, label, looks[architecture])
            labelled.add(architecture)
        chance = _chance(records, task).value
        plots.fitted_line(ax, lengths, [chance] * len(lengths), "" if "chance" in labelled else "chance")
        labelled.add("chance")
        plots.log2_axis(ax, lengths, "hops" if task == "chains" else "length")
        ax.set_title(TASKS[task])
        ax.set_ylim(-0.03, 1.03)  # a curve that stays at nothing is seen whole
    for ax in panels[: len(tasks) : 3]:
        ax.set_ylabel("accuracy")
    for ax in panels[len(tasks) :]:
        ax.remove()
    fig.legend(loc="outside lower center", ncols=3)
    return {"state_tracking": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Accuracy by multiples of the trained length, a row a task and architecture, each task's chance beside it."""
    rows: list[list[Cell]] = []
    for task in _tasks(records):
        for architecture in _architectures(records, task):
            curve = [_accuracy(records, task, architecture, times) for times in TIMES.values()]
            rows.append([TASKS[task], LABELS[architecture], *curve, _chance(records, task).value])
    return {
        "state_tracking": Table(
            header=["task", "architecture", "trained length", "twice", "four times", "chance"],
            rows=rows,
            caption="Accuracy of answers that take the whole row, at the longest length of the training and at twice and four "
            "times that, mean over seeds with its 95 % interval. No row was trained on.",
        )
    }


def _tasks(records: StudyRecords) -> Iterator[str]:
    yield from (task for task in TASKS if task in records.values("task"))


def _architectures(records: StudyRecords, task: str) -> list[str]:
    """Those that learnt a task, in the order of the legend."""
    learnt = records.only(task=task).values("architecture")
    return [architecture for architecture in LABELS if architecture in learnt]


def _accuracy(records: StudyRecords, task: str, architecture: str, times: float) -> Estimate:
    return records.mean("accuracy", task=task, architecture=architecture, times=times, control="own")


def _reflections_gain(records: StudyRecords) -> Estimate:
    if any(records.is_dropped(*arm) for arm in (("task", "s3"), ("architecture", "gated_delta_below_1"))):
        return Estimate.missing("fraction")
    of_task = records.only(task="s3", times=1.0, control="own")
    reflects, shrinks = (of_task.by_seed("accuracy", architecture=name) for name in ("gated_delta", "gated_delta_below_1"))
    return difference_interval(reflects, shrinks, "fraction")


def _best(records: StudyRecords, task: str, times: float) -> Estimate:
    if records.is_dropped("task", task):
        return Estimate.missing("fraction")
    own = records.only(task=task, times=times, control="own")
    by_seed = [own.by_seed("accuracy", architecture=architecture) for architecture in own.values("architecture")]
    return mean_interval(by_common_seed(by_seed).max(axis=1), "fraction")


def _chance(records: StudyRecords, task: str) -> Estimate:
    chance = records.constant("chance", task=task)
    return Estimate.missing("fraction") if chance is None else Estimate.exact(chance, unit="fraction")


def _wrong_minus_chance(records: StudyRecords) -> pd.Series:
    """Seed by seed, over all runs."""
    wrong = records.mean_by_seed("accuracy", control="wrong", times=1.0)
    return wrong - records.mean_by_seed("chance")
