"""What a decoded token costs, by its context: picked out of the records, compared, and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator, NullLocator

from ripstop.medians import median_interval
from ripstop.paper.by_heart import by_heart
from ripstop.paper.plots import curve_with_interval
from ripstop.paper.select import StudyRecords
from ripstop.paper.style import Look
from ripstop.statistics import Estimate

Arm = Mapping[str, str]
"""Factor -> value, of those that name an arm."""
Curve = dict[int, Estimate]
"""Context -> cost, in rising order."""
UNITS = {2**30: "GiB", 2**20: "MiB", 2**10: "KiB"}


@dataclass(frozen=True)
class Costs:
    """A study's records of costs. An arm that its scale dropped has none of them."""

    records: StudyRecords

    @by_heart
    def contexts(self, metric: str, arm: Arm) -> list[int]:
        """Where an arm has a metric: a prompt that costs too much is not read."""
        table = self.records.only(**arm).labels
        return sorted(int(context) for context in table.loc[table["metric"] == metric, "context"].unique())

    def count(self, metric: str, context: int, arm: Arm) -> int | None:
        """Of bytes or tokens, the same for every seed; None where the arm was dropped."""
        found = self.records.constant(metric, context=context, **arm)
        return None if found is None else int(found)

    @by_heart
    def counts(self, metric: str, arm: Arm) -> Curve:
        found = {context: self.count(metric, context, arm) for context in self.contexts(metric, arm)}
        return {context: Estimate.exact(n, 1, "bytes") for context, n in found.items() if n is not None}

    @by_heart
    def seconds(self, kind: str, context: int, arm: Arm) -> Estimate:
        """Median over turns. kind: "step" or "prompt"."""
        return median_interval(self.records.pick(f"{kind}_seconds", context=context, **arm)["value"], "seconds")

    def times(self, kind: str, arm: Arm) -> Curve:
        return {context: self.seconds(kind, context, arm) for context in self.contexts(f"{kind}_seconds", arm)}

    @by_heart
    def ratio(self, kind: str, context: int, arm: Arm) -> Estimate:
        """Of the arm's time to the reference's, turn by turn: what the machine does to both cancels."""
        own, reference = (
            self.records.pick(metric, context=context, **arm) for metric in (f"{kind}_seconds", f"reference_{kind}_seconds")
        )
        if own.empty and reference.empty:
            return Estimate.missing()
        turns = [rows.set_index(["run", "turn"])["value"] for rows in (own, reference)]
        return median_interval(turns[0] / turns[1])

    def ratios(self, kind: str, arm: Arm) -> Curve:
        return {context: self.ratio(kind, context, arm) for context in self.contexts(f"{kind}_seconds", arm)}


def from_on(holds: Mapping[int, bool]) -> Estimate:
    """The smallest context from which on it holds at every one; a bound where that lies outside of those measured."""
    places = sorted(holds)
    if not places:
        return Estimate.missing("tokens")
    first = max((i + 1 for i, context in enumerate(places) if not holds[context]), default=0)
    if first == len(places):
        return Estimate(places[-1], places[-1], math.inf, 1, "tokens")
    return Estimate(places[first], places[first] if first else -math.inf, places[first], 1, "tokens")


def draw(ax: Axes, costs: Curve, beside: Curve, label: str, look: Look, joined: bool = True) -> None:
    """Costs, joined by a line or not, and open markers where they exceed those `beside`, their intervals apart."""
    plotted = len(ax.get_lines())
    curve_with_interval(ax, list(costs), list(costs.values()), label, look)
    ax.get_lines()[plotted].set_linestyle("-" if joined else "none")
    more = [x for x, cost in costs.items() if x in beside and _end(cost, cost.low) > _end(beside[x], beside[x].high)]
    open_ = {"marker": look.marker, "color": look.color, "markerfacecolor": "white", "linestyle": "none"}
    ax.plot(more, [costs[x].value for x in more], **open_)  # type: ignore[arg-type]


def _end(cost: Estimate, end: float) -> float:
    """An end of the interval; the value where there is none."""
    return cost.value if math.isnan(end) else end


def context_axis(ax: Axes, ticks: Sequence[int]) -> None:
    """64, 1k, 16k."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}" if n < 1024 else f"{n / 1024:g}k"))
    ax.set_xlabel("context (tokens)")


def bytes_axis(ax: Axes, which: Literal["x", "y"] = "y") -> None:
    """Every sixteenfold, 64 KiB, 1 MiB, 16 MiB; or fourfold, or twofold, where so few are inside of what is drawn."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log", base=2)
    inside = ax.get_xlim() if which == "x" else ax.get_ylim()
    axis.set_major_locator(_sparsest(inside, *([2.0**k for k in range(0, 44, step)] for step in (4, 2, 1))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda n, _: in_units(n)))


def time_axis(ax: Axes) -> None:
    """Every tenfold, written out; or 1, 2 and 5, or every digit, where so few are inside of what is drawn."""
    ax.set_yscale("log")
    digits = ((1,), (1, 2, 5), tuple(range(1, 10)))
    ticks = ([n * 10.0**k for k in range(-9, 6) for n in some] for some in digits)
    ax.yaxis.set_major_locator(_sparsest(ax.get_ylim(), *ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))


def _sparsest(inside: tuple[float, float], *ticks: Sequence[float]) -> Locator:
    """At the first of several, sparse ones first, that has two inside of what is drawn so far; a few at round numbers else."""
    low, high = inside
    found = next((some for some in ticks if sum(low <= tick <= high for tick in some) > 1), None)
    return MaxNLocator(3) if found is None else FixedLocator(list(found))


def in_units(n_bytes: float) -> str:
    """`64 KiB`."""
    size, unit = next(((size, unit) for size, unit in UNITS.items() if n_bytes >= size), (1, "B"))
    return f"{n_bytes / size:.3g} {unit}"
