"""d_state_scaling in the paper: capacity against d_state, and against the total state."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper.select import by_seed, capacities, chance_level, pick, run_count
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import (
    Capacity,
    Estimate,
    capacity_interval,
    difference_interval,
    mean_interval,
    power_law,
)

SHAPE = ["d_state", "expand", "state_elements"]


def numbers(records: pd.DataFrame) -> dict[str, Estimate]:
    """Capacity at both ends of d_state, its exponents, the gain per doubling, and what longer training moves."""
    chance = chance_level(records)
    short, long = records["steps"].min(), records["steps"].max()
    expand = _main_expand(records)
    trained = records[records["steps"] == long]
    at_width = trained[trained["expand"] == expand]
    smallest, largest = at_width["d_state"].min(), at_width["d_state"].max()
    doublings = math.log2(largest / smallest) if largest > smallest else math.nan
    gain = difference_interval(_mean_recall(at_width, smallest, largest=True), _mean_recall(at_width, smallest))
    return {
        "capacity_at_min_d_state": capacity_interval(list(capacities(at_width, chance, d_state=smallest).values())),
        "capacity_at_max_d_state": capacity_interval(list(capacities(at_width, chance, d_state=largest).values())),
        "capacity_exponent_d_state": _exponent(at_width, chance, "d_state"),
        "capacity_exponent_total_state": _exponent(trained, chance, "state_elements"),
        "recall_gain_per_doubling": gain.scaled(1 / doublings) if doublings > 0 else Estimate.missing(),
        "training_length_shift": _shift(records, chance, short, long),
        "control_wrong": mean_interval(
            pick(trained, "accuracy", control="wrong", num_pairs=trained["num_pairs"].min()).groupby("seed")["value"].mean()
        ),
        "min_d_state": Estimate(smallest, smallest, smallest),
        "max_d_state": Estimate(largest, largest, largest),
        "n_runs": run_count(records),
    }


def figure(records: pd.DataFrame) -> Figure:
    """Left: recall against pairs, a curve a d_state. Right: capacity against the total state, at every length."""
    chance = chance_level(records)
    own = pick(records, "accuracy", control="own")
    curves = own[(own["expand"] == _main_expand(records)) & (own["steps"] == own["steps"].max())]
    pairs, sizes, lengths = (sorted(own[key].unique()) for key in ("num_pairs", "d_state", "steps"))
    fig = style.figure(columns=2, height=2.4)
    left, right = fig.subplots(1, 2)
    for d_state, look in zip(sizes, style.ordered(len(sizes)), strict=True):
        curve = [mean_interval(by_seed(curves, "accuracy", d_state=d_state, num_pairs=n)) for n in pairs]
        plots.curve_with_interval(left, pairs, curve, f"d_state {d_state:g}", look)
    plots.reference_line(left, chance, "chance")
    plots.log2_axis(left, pairs, "key-value pairs")
    left.set_ylabel("recall")
    left.set_ylim(0, 1.03)
    left.legend()
    shapes = _shapes(own)
    for steps, look in zip(lengths, style.ordered(len(lengths)), strict=True):
        points = [capacity_interval(_capacities(records, chance, shape, steps)) for shape in shapes]
        plots.scatter_with_interval(right, [shape[-1] for shape in shapes], points, f"{steps:g} steps", look)
    plots.log2_axis(right, [shape[-1] for shape in shapes], "state elements")
    plots.log2_axis(right, pairs, "capacity (pairs)", "y")
    right.legend()
    return fig


def table(records: pd.DataFrame) -> Table:
    """Capacity of every shape of the state, at every length of training."""
    chance = chance_level(records)
    lengths = sorted(records["steps"].unique())
    rows: list[list[Cell]] = [
        [*shape, *(capacity_interval(_capacities(records, chance, shape, n)) for n in lengths)] for shape in _shapes(records)
    ]
    return Table(
        header=["d_state", "expand", "state elements", *(f"capacity, {int(n)} steps" for n in lengths)],
        rows=rows,
        caption="Capacity (pairs at half recall) of one Mamba-2 decoder by the shape of its state, geometric mean over "
        "seeds with its 95 % interval. A bound means that the curve crosses half recall outside the tested pairs.",
        label="d_state_scaling",
    )


def _main_expand(records: pd.DataFrame) -> int:
    """The width at which d_state varies most: the expansion with the most values of d_state."""
    expands = sorted(int(e) for e in records["expand"].unique())
    return max(expands, key=lambda e: records[records["expand"] == e]["d_state"].nunique())


def _shapes(records: pd.DataFrame) -> list[tuple[int, int, int]]:
    """Every (d_state, expand, state elements) of the records, sorted."""
    return sorted({(int(d), int(e), int(n)) for d, e, n in records[SHAPE].itertuples(index=False)})


def _capacities(records: pd.DataFrame, chance: float, shape: tuple[int, int, int], steps: float) -> list[Capacity]:
    return list(capacities(records, chance, **dict(zip(SHAPE, shape, strict=True)), steps=steps).values())


def _shift(records: pd.DataFrame, chance: float, short: float, long: float) -> Estimate:
    """Capacity after long over short training: geometric mean over the shapes where both lie inside the tested pairs."""
    ratios: dict[int, list[float]] = {}
    for shape in _shapes(records):
        where = dict(zip(SHAPE, shape, strict=True))
        after, before = (capacities(records, chance, **where, steps=steps) for steps in (long, short))
        for seed in after.keys() & before.keys():
            if after[seed].censored == before[seed].censored == "no":
                ratios.setdefault(seed, []).append(math.log2(after[seed].value / before[seed].value))
    moved = mean_interval([sum(values) / len(values) for values in ratios.values()])
    return Estimate(2**moved.value, 2**moved.low, 2**moved.high, moved.n) if moved.n else moved


def _mean_recall(records: pd.DataFrame, smallest: float, largest: bool = False) -> pd.Series:
    """Recall averaged over the tested pairs, by seed, at the smallest (or largest) d_state."""
    d_state = records["d_state"].max() if largest else smallest
    return pick(records, "accuracy", control="own", d_state=d_state).groupby("seed")["value"].mean()


def _exponent(records: pd.DataFrame, chance: float, factor: str) -> Estimate:
    """Slope of log capacity in log `factor`, over the runs whose capacity lies inside the tested pairs."""
    points = [
        (rows[factor].iloc[0], capacity.value)
        for _, rows in records.groupby("run")
        for capacity in capacities(rows, chance).values()
        if capacity.censored == "no"
    ]
    return power_law([x for x, _ in points], [y for _, y in points]) if points else Estimate.missing()
