"""d_state_scaling in the paper: capacity against d_state, and against the total state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripstop.paper import learning, plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.recall_surface import Surface, fit_surface
from ripstop.statistics import Estimate, difference_interval, geometric_mean, mean_interval

SHAPE = ("d_state", "expand", "state_elements")

PARTS = {"held_out_accuracy": "learning_curve"}
NUMBERS = (
    "capacity_at_min_d_state",
    "capacity_at_max_d_state",
    "capacity_exponent_d_state",
    "capacity_exponent_total_state",
    "recall_gain_per_doubling",
    "longer_training_ratio",
    "surface_residual",
    "recall_easiest",
    "n_not_converged",
    "control_wrong",
    "min_d_state",
    "max_d_state",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Capacity at both ends of d_state, its exponents, the gain per doubling, and what longer training moves.

    All after the longest training, and by d_state at the width of most values of d_state. The exponents come from one model
    of recall for all runs, so curves that never cross half recall count; surface_residual says how well it describes them.
    recall_easiest: the positive control, fewest pairs in the largest d_state.
    """
    trained = records.only(steps=records.values("steps")[-1])
    at_width = trained.only(expand=_main_expand(trained))
    smallest, largest = at_width.values("d_state")[0], at_width.values("d_state")[-1]
    fewest = records.values("num_pairs")[0]
    surface = _surface(trained, "state_elements")
    return {
        "capacity_at_min_d_state": at_width.capacity(d_state=smallest),
        "capacity_at_max_d_state": at_width.capacity(d_state=largest),
        "capacity_exponent_d_state": _surface(at_width, "d_state").exponent,
        "capacity_exponent_total_state": surface.exponent,
        "surface_residual": _residual(surface),
        "recall_easiest": at_width.mean("accuracy", d_state=largest, control="own", num_pairs=fewest),
        "n_not_converged": learning.n_not_converged(trained, "shape"),
        "recall_gain_per_doubling": _gain(at_width, smallest, largest),
        "longer_training_ratio": _longer_training(records),
        "control_wrong": mean_interval(trained.mean_by_seed("accuracy", control="wrong", num_pairs=fewest), "fraction"),
        "min_d_state": Estimate.exact(smallest, unit="elements"),
        "max_d_state": Estimate.exact(largest, unit="elements"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Left: recall against pairs, a curve a d_state. Right: capacity against the total state, after each training."""
    pairs, trainings = records.values("num_pairs"), records.values("steps")
    curves = records.only(steps=trainings[-1])
    curves = curves.only(expand=_main_expand(curves))
    sizes = curves.values("d_state")
    fig = style.figure(columns=2, height=2.4)
    left, right = fig.subplots(1, 2)
    for d_state, look in zip(sizes, style.ordered(len(sizes)), strict=True):
        curve = [curves.mean("accuracy", d_state=d_state, control="own", num_pairs=n) for n in pairs]
        plots.curve_with_interval(left, pairs, curve, f"d_state {d_state:g}", look)
    plots.reference_line(left, records.chance, "chance")
    plots.log2_axis(left, pairs, "key-value pairs")
    left.set_ylabel("recall")
    left.set_ylim(0, 1.03)
    left.legend()
    shapes = _shapes(records)
    for steps, look in zip(trainings, style.ordered(len(trainings)), strict=True):
        points = [records.capacity(**shape, steps=steps) for shape in shapes]
        at = [shape["state_elements"] for shape in shapes]
        plots.scatter_with_interval(right, at, points, f"{steps:g} steps", look)
    _name_shapes(right, shapes, [point.value for point in points])
    surface = _surface(records.only(steps=trainings[-1]), "state_elements", interval=False)
    sizes = sorted({shape["state_elements"] for shape in shapes})
    plots.fitted_line(right, sizes, [surface.capacity(size) for size in sizes], "joint fit")
    plots.log2_axis(right, sizes, "state elements")
    plots.log2_axis(right, pairs, "capacity (pairs)", "y")
    right.legend()
    return {"d_state_scaling": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Capacity of every shape of the state, after each training."""
    trainings = records.values("steps")
    longest = records.only(steps=trainings[-1])
    rows: list[list[Cell]] = [
        [
            *shape.values(),
            *(records.capacity(**shape, steps=steps) for steps in trainings),
            learning.late_gain(longest, **shape),
        ]
        for shape in _shapes(records)
    ]
    return {
        "d_state_scaling": Table(
            header=[
                "d_state",
                "expand",
                "state elements",
                *(f"capacity, {int(steps)} steps" for steps in trainings),
                "late gain",
            ],
            rows=rows,
            caption="Capacity (pairs at half recall) of one Mamba-2 decoder by the shape of its state, geometric mean over "
            "seeds with its 95 % interval. A bound means that the curve crosses half recall outside the tested pairs. "
            "Late gain: how far recall on held-out data moved over the last fifth of the longest training.",
        ),
        **learning.settings(longest, "d_state_scaling_settings", "shape", _labels(records)),
    }


def _main_expand(records: StudyRecords) -> int:
    """The width at which d_state varies most: the expansion with the most values of d_state."""
    return max(records.values("expand"), key=lambda expand: len(records.only(expand=expand).values("d_state")))


def _name_shapes(ax: Axes, shapes: Sequence[Mapping[str, int]], capacities: Sequence[float]) -> None:
    """d_state and expand beside each point; of shapes with as many elements, above the highest and below the others."""
    highest: dict[int, float] = {}
    for shape, capacity in zip(shapes, capacities, strict=True):
        total = shape["state_elements"]
        highest[total] = max(highest.get(total, 0.0), capacity)
    for shape, capacity in zip(shapes, capacities, strict=True):
        if math.isfinite(capacity):
            at, off = (shape["state_elements"], capacity), (4, 3 if capacity == highest[shape["state_elements"]] else -8)
            ax.annotate(f"{shape['d_state']}, {shape['expand']}", at, off, textcoords="offset points", fontsize=5.5)


def _shapes(records: StudyRecords) -> list[dict[str, int]]:
    """Every shape of the state, sorted."""
    found = {tuple(int(value) for value in row) for row in records.labels[list(SHAPE)].itertuples(index=False)}
    return [dict(zip(SHAPE, shape, strict=True)) for shape in sorted(found)]


def _labels(records: StudyRecords) -> dict[str, str]:
    """The name of every shape in the records -> that in the paper."""
    shapes = _shapes(records)
    return {f"{s['d_state']}x{s['expand']}": f"d_state {s['d_state']}, expand {s['expand']}" for s in shapes}


def _residual(surface: Surface) -> Estimate:
    n = surface.exponent.n
    return Estimate.unknown(n, "fraction") if math.isnan(surface.residual) else Estimate.exact(surface.residual, n, "fraction")


def _gain(records: StudyRecords, smallest: int, largest: int) -> Estimate:
    """Recall, averaged over the tested pairs, at the largest minus at the smallest d_state, per doubling between them."""
    small, large = (records.mean_by_seed("accuracy", control="own", d_state=d_state) for d_state in (smallest, largest))
    if largest == smallest:
        return Estimate.unknown(len(large), "fraction")
    return difference_interval(large, small, "fraction").times(1 / math.log2(largest / smallest), "fraction")


def _longer_training(records: StudyRecords) -> Estimate:
    """Capacity after the longest over that after the shortest training.

    Geometric mean over the shapes where both lie inside the tested pairs, then over seeds.
    """
    short, long = records.values("steps")[0], records.values("steps")[-1]
    moved: dict[int, list[float]] = {}
    for shape in _shapes(records):
        before, after = (records.capacities(**shape, steps=steps) for steps in (short, long))
        for seed in after.keys() & before.keys():
            if after[seed].censored == before[seed].censored == "no":
                moved.setdefault(seed, []).append(math.log2(after[seed].value / before[seed].value))
    if not moved or short == long:
        return Estimate.unknown(records.labels["seed"].nunique())
    return geometric_mean([2 ** (sum(logs) / len(logs)) for _, logs in sorted(moved.items())])


def _surface(records: StudyRecords, factor: str, interval: bool = True) -> Surface:
    """Recall in the number of pairs and in `factor`, over all runs."""
    rows = records.pick("accuracy", control="own")
    return fit_surface(rows["num_pairs"], rows[factor], rows["value"], rows["run"], records.chance, interval)
