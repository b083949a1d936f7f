"""What learning curves say: whether a recall has stopped moving, how many steps a level took, and with which settings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Table
from ripstop.statistics import Capacity, Estimate, capacity_interval, mean_interval

LAST_PART = 0.2
"""Of the steps, over which a recall that has converged moves by less than `STILL`."""
STILL = 0.01
PART = "learning_curve"
NOTES = (
    f"Not converged: over the last fifth of the steps the recall on held-out data still moved by {STILL:g} or more, mean over "
    "seeds.",
)
CAPTION = (
    "The settings that each arm chose, by the lowest held-out loss of one training for each combination on offer, with a seed "
    "that no result has."
)
NOTHING_CHOSEN = "At this scale no settings were on offer: every arm trained with the study's own."
SHORT = {"training.lr": "learning rate", "model.embedding_std": "embedding std"}


@by_heart
def late_gain(records: StudyRecords, **where: object) -> Estimate:
    """How far the held-out accuracy moved over the last fifth of the steps, a mean over seeds; no unit, may be negative.

    Unknown where a seed was not measured before that fifth.
    """
    gains = [_late(curve) for _, curve in _curves(records, where)]
    return Estimate.unknown(len(gains)) if None in gains else mean_interval([gain for gain in gains if gain is not None])


def still_learns(records: StudyRecords, **where: object) -> bool:
    """The mean over seeds moved by `STILL` or more over the last fifth of the steps; not where nothing is known of that."""
    return abs(late_gain(records, **where).value) >= STILL


@by_heart
def steps_to(records: StudyRecords, level: float, **where: object) -> Estimate:
    """Steps until the held-out accuracy first reached `level`, between two validations on a straight line.

    Geometric mean over seeds; a seed that never reached it makes it a bound from below.
    """
    return capacity_interval([_reached(curve, level) for _, curve in _curves(records, where)], "steps")


def n_not_converged(records: StudyRecords, factor: str) -> Estimate:
    """How many values a factor has whose arms were still learning when their training ended; unknown where one is."""
    if records.is_dropped("part", PART):
        return Estimate.missing("arms")
    gains = [late_gain(records, **{factor: arm}) for arm in records.values(factor)]
    if any(math.isnan(gain.value) for gain in gains):
        return Estimate.unknown(records.n_seeds, "arms")
    return Estimate.exact(sum(abs(gain.value) >= STILL for gain in gains), records.n_seeds, "arms")


def mark(records: StudyRecords, label: str, **where: object) -> str:
    """The label of an arm in a legend or table; one that was still learning says so."""
    return f"{label} (not converged)" if still_learns(records, **where) else label


def settings(records: StudyRecords, name: str, factor: str, labels: Mapping[str, str]) -> dict[str, Table]:
    """A table called `name` of what each arm chose, in the order of `labels`; it says so where nothing was to choose."""
    keys = records.values("setting") if "setting" in records.labels else []
    present = records.values(factor)
    arms = [*(arm for arm in labels if arm in present), *(arm for arm in present if arm not in labels)]
    rows = [[labels.get(arm, arm), *(records.constant("chosen", setting=key, **{factor: arm}) for key in keys)] for arm in arms]
    header = [factor.replace("_", " "), *(SHORT.get(str(key), str(key)) for key in keys)]
    return {name: Table(header=header, rows=rows, caption=CAPTION if keys else NOTHING_CHOSEN)}


def chosen(records: StudyRecords, setting: str, **where: object) -> float | None:
    """The value that an arm chose for one setting; None where nothing was to choose."""
    if "setting" not in records.labels or setting not in records.values("setting"):
        return None
    return records.constant("chosen", setting=setting, **where)


def _curves(records: StudyRecords, where: dict[str, object]) -> list[tuple[object, pd.Series]]:
    """Each seed's held-out accuracy by step."""
    rows = records.pick("held_out_accuracy", **where)
    return [(seed, curve["value"].set_axis(pd.Index(curve["step"])).sort_index()) for seed, curve in rows.groupby("seed")]


def _late(curve: pd.Series) -> float | None:
    """The last value minus that at four fifths of the steps, or at the last validation before; None where there is none."""
    before = curve[curve.index <= (1 - LAST_PART) * curve.index[-1]]
    return float(curve.iloc[-1] - before.iloc[-1]) if len(before) else None


def _reached(curve: pd.Series, level: float) -> Capacity:
    """The step at which the curve first reaches `level`, in a form that may be a bound."""
    above = curve.index[curve >= level]
    if not len(above):
        return Capacity(float(curve.index[-1]), "above")
    step, last, value = float(above[0]), 0.0, 0.0
    earlier = curve[curve.index < above[0]]
    if len(earlier):
        last, value = float(earlier.index[-1]), float(earlier.iloc[-1])
    reached = curve.loc[above[0]]
    return Capacity(last + (step - last) * (level - value) / (reached - value))
