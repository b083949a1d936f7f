"""The cost of whole translations in the paper: throughput, latency and memory against lengths and batch, log-log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripstop.medians import median_interval
from ripstop.paper import costs, plots, style
from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.paper.style import Look
from ripstop.statistics import Estimate

Arm = Mapping[str, object]
"""Factor -> value, of those that name an arm."""
Curve = dict[int, Estimate]
"""Length or batch -> cost, in rising order."""
Sweep = Literal["source", "target", "batch"]
SWEEPS: dict[Sweep, str] = {"source": "source (tokens)", "target": "translation (tokens)", "batch": "translations at once"}
SHIFT = 1.08
"""From one curve to the next."""
RATE, FIRST, EACH, MEMORY = (
    "translation_tokens_per_second",
    "first_token_seconds",
    "inter_token_seconds",
    "translation_peak_bytes",
)
MORE_IS_BETTER = {RATE}
METRICS = (RATE, FIRST, EACH, MEMORY)


@dataclass(frozen=True)
class TranslationCosts:
    """A study's records of translations' costs. An arm that its scale dropped has none of them."""

    records: StudyRecords

    @by_heart
    def curve(self, metric: str, sweep: Sweep, arm: Arm) -> Curve:
        """The metric against one of lengths and batch, the others where that sweep has them; medians over turns and runs."""
        rows = self.records.pick(metric, **arm)
        if rows.empty:
            return {}
        rows = rows[self._of_sweep(sweep, rows)]
        unit = self.records.unit(metric)
        return {int(n): median_interval(rows[rows[sweep] == n]["value"], unit) for n in sorted(rows[sweep].unique())}

    @by_heart
    def ratios(self, metric: str, sweep: Sweep, arm: Arm) -> Curve:
        """The same over the reference's, turn by turn: what the machine does to both cancels."""
        own, reference = (self.records.pick(name, **arm) for name in (metric, f"reference_{metric}"))
        found: Curve = {}
        for n in self.curve(metric, sweep, arm):
            turns = []
            for rows in (own, reference):
                here = rows[self._of_sweep(sweep, rows) & (rows[sweep] == n)]
                turns.append(here.set_index(["run", "turn"])["value"])
            found[n] = median_interval(turns[0] / turns[1])
        return found

    def worse(self, metric: str, sweep: Sweep, arm: Arm, beside: Arm) -> list[int]:
        """Where the arm costs more than the one `beside`, their intervals apart."""
        return worse(metric, self.curve(metric, sweep, arm), self.curve(metric, sweep, beside))

    def _of_sweep(self, sweep: Sweep, rows: pd.DataFrame) -> pd.Series:
        """Which rows belong to a sweep: those that have the others' most frequent values, which all sweeps share."""
        points = self.records.pick(MEMORY)[list(SWEEPS)].drop_duplicates()
        fixed = {name: points[name].mode().min() for name in SWEEPS if name != sweep}
        keep = rows[sweep].notna()
        for name, value in fixed.items():
            keep &= rows[name] == value
        return keep


def worse(metric: str, own: Curve, beside: Curve) -> list[int]:
    """Places where `own` is worse than `beside`, their intervals apart; where one has none its value counts."""
    sign = -1 if metric in MORE_IS_BETTER else 1
    return [n for n, cost in own.items() if n in beside and _best(cost, sign) > _worst(beside[n], sign)]


def figures(records: StudyRecords, arms: Mapping[str, Arm], beside: str) -> dict[str, Figure]:
    """`throughput`, `latency` and `memory`; arms: label -> arm, of which `beside` is the label of one.

    An open marker: worse there than `beside`.
    """
    cost = TranslationCosts(records)
    looks = style.looks(list(arms))
    panels: dict[str, list[tuple[str, Sweep, str]]] = {
        "throughput": [(RATE, sweep, "tokens per second") for sweep in SWEEPS],
        "latency": [(FIRST, "source", "seconds to the first token"), (EACH, "target", "seconds a further token")],
        "memory": [(MEMORY, sweep, "most bytes at once") for sweep in SWEEPS],
    }
    found = {}
    for name, wanted in panels.items():
        fig = style.figure(columns=2, height=2.3)
        axes = fig.subplots(1, len(wanted), squeeze=False)[0]
        for ax, (metric, sweep, label) in zip(axes, wanted, strict=True):
            curves = {arm: cost.curve(metric, sweep, arms[arm]) for arm in arms}
            for n, (arm, curve) in enumerate(curves.items()):
                draw(ax, metric, curve, curves[beside], arm, looks[arm], SHIFT ** (n - (len(arms) - 1) / 2))
            _axes(ax, metric, sweep, sorted({n for curve in curves.values() for n in curve}))
            ax.set_title(label)
        axes[0].legend()
        found[name] = fig
    return found


def draw(ax: Axes, metric: str, curve: Curve, beside: Curve, label: str, look: Look, shift: float) -> None:
    """Points with error bars, joined, and open ones where they are worse than those beside. shift: times which they stand off
    their places, so that what coincides is seen."""
    at, values = [n * shift for n in curve], [cost.value for cost in curve.values()]
    ax.plot(at, values, color=look.color, linewidth=0.6, alpha=0.6, zorder=1)
    plots.scatter_with_interval(ax, at, list(curve.values()), label, look)
    open_ = worse(metric, curve, beside)
    hollow: dict[str, Any] = {"marker": look.marker, "color": look.color, "markerfacecolor": "white", "linestyle": "none"}
    ax.plot([n * shift for n in open_], [curve[n].value for n in open_], zorder=3, **hollow)


def _axes(ax: Axes, metric: str, sweep: Sweep, ticks: Sequence[int]) -> None:
    plots.log2_axis(ax, ticks or [1], SWEEPS[sweep])
    if metric == MEMORY:
        costs.bytes_axis(ax)
    else:
        costs.time_axis(ax)


def _best(cost: Estimate, sign: int) -> float:
    """The better end of an interval as a cost; the value where there is none."""
    end = cost.low if sign > 0 else cost.high
    return sign * (cost.value if math.isnan(end) else end)


def _worst(cost: Estimate, sign: int) -> float:
    end = cost.high if sign > 0 else cost.low
    return sign * (cost.value if math.isnan(end) else end)
