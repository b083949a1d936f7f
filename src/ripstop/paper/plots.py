"""The plot forms that all studies share, and how a figure becomes a file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from ripstop.files import replacing
from ripstop.paper.numbers import format_estimate
from ripstop.paper.style import PLAIN, Look, style
from ripstop.statistics import Estimate

_ESTIMATES: WeakKeyDictionary[Line2D, tuple[str, Sequence[Estimate]]] = WeakKeyDictionary()
"""What each line of the forms below stands for, and the axis of its values."""


def curve_with_interval(ax: Axes, x: Sequence[float], estimates: Sequence[Estimate], label: str, look: Look) -> None:
    """A line through the values with a band for the intervals. What was not measured leaves a gap.

    An empty label: no legend entry.
    """
    (line,) = ax.plot(x, [e.value for e in estimates], color=look.color, marker=look.marker, label=label or None, gid=label)
    _ESTIMATES[line] = "y", estimates
    low, high = (np.array([_inside(e, end) for e in estimates]) for end in ("low", "high"))
    ax.fill_between(x, low, high, color=look.color, alpha=0.2, linewidth=0)


def scatter_with_interval(ax: Axes, x: Sequence[float], estimates: Sequence[Estimate], label: str, look: Look) -> None:
    """Points with error bars, e.g. capacity against state. A bound is an open marker with an arrow to the open side."""
    ax.plot([], [], color=look.color, marker=look.marker, linestyle="none", label=label or None)
    for at, e in zip(x, estimates, strict=True):
        if not math.isfinite(e.value):
            continue
        if math.isinf(e.low) or math.isinf(e.high):
            _bound(ax, at, e.value, e, look, label, "y")
        else:
            _point(ax, at, e.value, e, look, label, "y")


def forest(ax: Axes, labels: Sequence[str], estimates: Sequence[Estimate], look: Look = PLAIN) -> None:
    """One row per estimate, first on top: a dot with its interval, an open one with an arrow for a bound; words where there
    is no value."""
    for row, (label, e) in enumerate(zip(labels, estimates, strict=True)):
        if math.isfinite(e.value) and (math.isinf(e.low) or math.isinf(e.high)):
            _bound(ax, e.value, row, e, look, label, "x")
        elif math.isfinite(e.value):
            _point(ax, e.value, row, e, look, label, "x")
        else:
            at = ax.get_yaxis_transform()
            ax.text(0.02, row, format_estimate(e), transform=at, va="center", color="0.5", fontsize=7)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def log2_axis(ax: Axes, values: Sequence[float], label: str, which: Literal["x", "y"] = "x") -> None:
    """A base-2 axis whose ticks are the given values, written as they are (4, 8, 16, not 2^2)."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log", base=2)
    axis.set_major_locator(FixedLocator(sorted(set(values))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_label_text(label)


def reference_line(
    ax: Axes, value: float, label: str, which: Literal["x", "y"] = "y", side: Literal["left", "right"] = "left"
) -> None:
    """A dashed grey line at a level to compare with, such as chance, with its name on it. `which`: the value's axis. side: of
    the name on a level."""
    line: dict[str, Any] = {"color": "0.45", "linestyle": (0, (4, 3)), "linewidth": 0.8, "zorder": 1}
    text: dict[str, Any] = {"color": "0.35", "fontsize": 6.5}
    if which == "y":
        ax.axhline(value, **line)
        at = 0.01 if side == "left" else 0.99
        ax.text(at, value, label, transform=ax.get_yaxis_transform(), ha=side, va="bottom", **text)
    else:
        ax.axvline(value, **line)
        ax.text(value, 0.99, label, transform=ax.get_xaxis_transform(), ha="left", va="top", rotation=90, **text)


def fitted_line(ax: Axes, x: Sequence[float], y: Sequence[float], label: str) -> None:
    """A dashed grey line to compare with, such as what a fit says, where it says something; a legend entry of its own."""
    if all(map(math.isfinite, y)):
        ax.plot(x, y, color="0.45", linestyle=(0, (4, 3)), linewidth=0.8, zorder=1, label=label)


@dataclass(frozen=True)
class Point:
    """A point of a curve, with its interval along the axis of the estimate; along the other one, and where an end is unknown
    or open, the ends are the value."""

    label: str
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float


def curves(ax: Axes) -> list[Point]:
    """What the forms above drew on `ax`, point by point."""
    points = []
    for line in ax.get_lines():
        if not line.get_gid():
            continue
        which, estimates = _ESTIMATES.get(line, ("y", []))
        for at, (x, y) in enumerate(np.asarray(line.get_xydata(), dtype=np.float64).tolist()):
            if math.isfinite(x + y):
                ends = {"x": (x, x), "y": (y, y)}
                if estimates:
                    ends[which] = float(_inside(estimates[at], "low")), float(_inside(estimates[at], "high"))
                points.append(Point(str(line.get_gid()), x, y, *ends["x"], *ends["y"]))
    return points


def axis_name(ax: Axes, which: Literal["x", "y"]) -> str:
    """What an axis shows: its label, or the panel's title where the values are named there; and the ticks of x where those are
    words (along y they name the curves)."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    name = axis.get_label_text() or (ax.get_title() if which == "y" else "")
    named = isinstance(axis.get_major_locator(), FixedLocator) and axis.get_scale() == "linear" and which == "x"
    at = [float(x) for x in axis.get_ticklocs()] if named else []
    told = ", ".join(f"{x:g}: {word}" for x, word in zip(at, axis.get_major_formatter().format_ticks(at), strict=True))
    return f"{name} ({told})" if told else name


def save(figure: Figure, path: Path) -> None:
    """The figure as `path` (PDF) with a PNG beside it. The same figure gives the same bytes."""
    with style():
        FigureCanvasAgg(figure)
        _write(figure, path, "pdf", {"CreationDate": None, "Producer": None, "Creator": None})
        _write(figure, path.with_suffix(".png"), "png", {"Software": None})


def _write(figure: Figure, path: Path, form: str, metadata: dict[str, None]) -> None:
    """Drawn in memory: the PDF's writer has an error of its own for a disk that is full."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=form, metadata=metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def _point(
    ax: Axes,
    x: float,
    y: float,
    e: Estimate,
    look: Look,
    label: str,
    which: Literal["x", "y"],
) -> None:
    """which: the axis of the estimate."""
    bars: dict[str, Any] = {"color": look.color, "capsize": 2, "elinewidth": 0.8, f"{which}err": _errors(e)}
    dot, _, _ = ax.errorbar([x], [y], marker=look.marker, **bars)
    dot.set_gid(label)  # the dot alone: the caps of its bars are lines too
    _ESTIMATES[dot] = which, [e]


def _bound(ax: Axes, x: float, y: float, e: Estimate, look: Look, label: str, which: Literal["x", "y"]) -> None:
    """which: the axis of the estimate."""
    length = 12 if e.high == math.inf else -12
    (dot,) = ax.plot([x], [y], color=look.color, marker=look.marker, markerfacecolor="white", linestyle="none", gid=label)
    _ESTIMATES[dot] = which, [e]
    ax.annotate(
        "",
        xy=(x, y),
        xytext=(length, 0) if which == "x" else (0, length),
        textcoords="offset points",
        # Reversed, so that the head is at the text's end, away from the marker.
        arrowprops={"arrowstyle": "<-", "color": look.color, "linewidth": 0.8},
    )


def _inside(e: Estimate, end: Literal["low", "high"]) -> float:
    """An end of the interval, or the value itself where that end is unknown or open."""
    limit = e.low if end == "low" else e.high
    return limit if math.isfinite(limit) else e.value


def _errors(e: Estimate) -> NDArray[np.float64]:
    """Distances from the value to the ends of its interval, [2, 1]."""
    return np.array([[e.value - _inside(e, "low")], [_inside(e, "high") - e.value]]).clip(min=0)
