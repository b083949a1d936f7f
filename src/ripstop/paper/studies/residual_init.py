"""residual_init in the paper: recall with and without depth scaling of what is added to the residual stream."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import learning, plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval

LABELS = {"depth": "divided by the root of the number of terms", "plain": "as drawn"}
ARMS = {"start": tuple(LABELS)}
PARTS = {"held_out_accuracy": "learning_curve"}
NUMBERS = ("depths_plain_better", "depths_depth_better", "n_depths", "gain_shallowest", "gain_deepest", "chance", "n_runs")


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """gain: recall without depth scaling minus that with it, over all tested pairs, paired by seed; at the least and the
    greatest depth. depths_..._better: depths at which its interval excludes 0 in favour of one start."""
    depths = records.values("depth")
    gains = [_gain(records, depth) for depth in depths]
    return {
        "depths_plain_better": _count(records, [gain.low for gain in gains]),
        "depths_depth_better": _count(records, [-gain.high for gain in gains]),
        "n_depths": Estimate.exact(len(depths), records.n_seeds, "depths"),
        "gain_shallowest": gains[0],
        "gain_deepest": gains[-1],
        "chance": Estimate.exact(records.chance, unit="fraction"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Recall against pairs, a panel a depth, a curve a start; the dashed line is chance."""
    pairs, depths = records.values("num_pairs"), records.values("depth")
    looks = style.looks(list(LABELS))
    fig = style.figure(columns=2, height=2.2)
    panels = fig.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for ax, depth in zip(panels, depths, strict=True):
        for start, label in LABELS.items():
            curve = [records.mean("accuracy", depth=depth, start=start, control="own", num_pairs=n) for n in pairs]
            plots.curve_with_interval(ax, pairs, curve, label if depth == depths[0] else "", looks[start])
        plots.reference_line(ax, records.chance, "chance")
        plots.log2_axis(ax, pairs, "key-value pairs")
        ax.set_title("1 layer" if depth == 1 else f"{depth:g} layers")
        ax.set_ylim(0, 1.03)
    panels[0].set_ylabel("recall")
    fig.legend(loc="outside lower center", ncols=2)
    return {"residual_init": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Mean recall of both starts at every depth, their difference, and the learning rate that each chose."""
    rows: list[list[Cell]] = []
    for depth in records.values("depth"):
        for start, label in LABELS.items():
            arm = {"depth": depth, "start": start}
            rows.append(
                [
                    int(depth),
                    learning.mark(records, label, **arm),
                    mean_interval(_recall(records, depth, start), "fraction"),
                    _gain(records, depth) if start == "plain" else "",
                    learning.chosen(records, "training.lr", **arm),
                ]
            )
    return {
        "residual_init": Table(
            header=["layers", "output projections", "recall", "gain", "learning rate"],
            rows=rows,
            caption="Recall of Mamba-2 on MQAR, averaged over the tested numbers of pairs, with output projections as drawn "
            "and divided by the root of the number of residual terms; the gain is paired by seed. Each arm chose its "
            "learning rate.",
            notes=learning.NOTES,
        )
    }


def _count(records: StudyRecords, ends: list[float]) -> Estimate:
    """How many depths have this end of their interval above 0; unknown where one seed gives no interval."""
    if any(map(math.isnan, ends)):
        return Estimate.unknown(records.n_seeds, "depths")
    return Estimate.exact(sum(end > 0 for end in ends), records.n_seeds, "depths")


def _recall(records: StudyRecords, depth: float, start: str) -> pd.Series:
    return records.mean_by_seed("accuracy", control="own", depth=depth, start=start)


def _gain(records: StudyRecords, depth: float) -> Estimate:
    return difference_interval(_recall(records, depth, "plain"), _recall(records, depth, "depth"), "fraction")
