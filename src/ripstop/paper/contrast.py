"""Use of context in the paper: the right pronoun by context, distance and gender, and what a context gains in loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.statistics import Estimate, difference_interval, mean_interval

Arm = Mapping[str, object]
"""Factor -> value, of those that name an arm."""
LINES = {"own": "own context", "wrong": "wrong document", "none": "sentence alone"}
"""Context -> its name in a figure, in this order; always choosing "es" is a line of its own."""
CXMI = ("own", "none")
"""The contexts whose losses CXMI is the difference of."""
BALANCED, ALL, WITH_CONTEXT = "balanced", "all", ">0"
"""The mean of three genders; all items; those whose antecedent stands in an earlier sentence."""
GENDERS = {"m": "er", "f": "sie", "n": "es"}


def accuracy(records: StudyRecords, context: str, arm: Arm, distance: str = ALL, gender: str = BALANCED) -> Estimate:
    """Mean over seeds of the share of items where the reference beats every variant."""
    return records.mean("pronoun_accuracy", context=context, distance=distance, gender=gender, **arm)


def always_es(records: StudyRecords, distance: str = ALL, gender: str = BALANCED) -> float | None:
    """What always choosing "es" gives; None where the part was dropped."""
    return records.constant("always_es_accuracy", distance=distance, gender=gender)


def distances(records: StudyRecords) -> list[str]:
    """The groups by distance, each item in one of them: 0, 1, ..., and what is beyond; those that have items of all genders."""
    rows = records.pick("pronoun_accuracy", gender=BALANCED)
    found = set() if rows.empty else {str(d) for d in rows["distance"].unique()} - {ALL, WITH_CONTEXT}
    return sorted(found, key=lambda d: (d.startswith(">"), int(d.removeprefix(">"))))


@by_heart
def pronoun_gain(records: StudyRecords, arm: Arm, distance: str = WITH_CONTEXT, without: str = "none") -> Estimate:
    """Accuracy with the own context minus that with another, or none, seed by seed; balanced over genders."""
    own, other = (
        records.by_seed("pronoun_accuracy", context=context, distance=distance, gender=BALANCED, **arm)
        for context in ("own", without)
    )
    return _difference(own, other, "fraction")


@by_heart
def cxmi(records: StudyRecords, arm: Arm, context: str = "own") -> Estimate:
    """Nats per target token that a context gains, seed by seed: the loss without one minus that after it (CXMI)."""
    without, given = (records.by_seed("context_loss", context=name, **arm) for name in ("none", context))
    return _difference(without, given, "nats")


def figure(records: StudyRecords, arms: Mapping[str, Arm], arm: Arm) -> Figure:
    """Left: each of `arms` (label -> arm) on items with their antecedent in an earlier sentence, balanced over genders.

    Middle and right: `arm` by distance, balanced, and by gender, over all distances.
    """
    fig = style.figure(columns=2, height=2.3)
    by_arm, by_distance, by_gender = fig.subplots(1, 3, sharey=True)
    draw_by_arm(by_arm, records, arms)
    draw_by_distance(by_distance, records, arm)
    draw_by_gender(by_gender, records, arm)
    by_arm.set_ylabel("right pronoun (share)")
    by_arm.set_xlabel("decoder")
    by_arm.set_ylim(0, 1)
    by_distance.legend(loc="upper right")
    return fig


def draw_by_arm(ax: Axes, records: StudyRecords, arms: Mapping[str, Arm], distance: str = WITH_CONTEXT) -> None:
    """A curve over the arms for each context."""
    _lines(ax, list(arms), [{context: accuracy(records, context, arm, distance) for context in LINES} for arm in arms.values()])
    level = always_es(records, distance)
    if level is not None:
        plots.reference_line(ax, level, "always es")
    ax.set_title("antecedent in an earlier sentence" if distance == WITH_CONTEXT else f"distance {distance}")


def draw_by_distance(ax: Axes, records: StudyRecords, arm: Arm) -> None:
    """A curve over distances for each context."""
    groups = distances(records)
    _lines(ax, groups, [{context: accuracy(records, context, arm, group) for context in LINES} for group in groups])
    _dashed(ax, [always_es(records, group) for group in groups])
    ax.set_xlabel("sentences back to the antecedent")


def draw_by_gender(ax: Axes, records: StudyRecords, arm: Arm) -> None:
    """Points for each context side by side, gender by gender, all distances together."""
    for n, ((context, label), look) in enumerate(zip(LINES.items(), style.ordered(len(LINES)), strict=True)):
        at = [place + 0.15 * (n - (len(LINES) - 1) / 2) for place in range(len(GENDERS))]
        plots.scatter_with_interval(ax, at, [accuracy(records, context, arm, gender=g) for g in GENDERS], label, look)
    ax.set_xticks(range(len(GENDERS)), list(GENDERS.values()))
    ax.hlines([0, 0, 1], [-0.3, 0.7, 1.7], [0.3, 1.3, 2.3], color="0.45", linestyle=(0, (4, 3)), linewidth=0.8, zorder=1)
    ax.set_xlabel("right pronoun")


def _lines(ax: Axes, places: Sequence[str], values: Sequence[Mapping[str, Estimate]]) -> None:
    at = range(len(places))
    for (context, label), look in zip(LINES.items(), style.ordered(len(LINES)), strict=True):
        plots.curve_with_interval(ax, at, [value[context] for value in values], label, look)
    ax.set_xticks(at, list(places))


def _dashed(ax: Axes, levels: Sequence[float | None]) -> None:
    """Always choosing "es", which differs from place to place."""
    known = [level for level in levels if level is not None]
    if len(known) == len(levels):
        plots.fitted_line(ax, range(len(known)), known, "always es")


def _difference(a: pd.Series, b: pd.Series, unit: str) -> Estimate:
    return mean_interval(a, unit) if a.empty else difference_interval(a, b, unit)
