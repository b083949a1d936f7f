"""Drawings of the page in SVG: the paper's figures, loss curves, and intervals held against criteria."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from ripstop.paper.style import style

MOVES_NO_NUMBER = "it shows what was printed"

PIXELS_PER_INCH = 96
MOST_POINTS = 120
"""Of a loss curve; more are not seen at its size."""
WIDTH, HEIGHT = 240.0, 132.0
"""Of a panel of loss curves, with its labels in the left and lower margins."""
LEFT, TOP, RIGHT, BOTTOM = 38.0, 6.0, 234.0, 112.0

Points = Sequence[tuple[float, float]]


def embedded(figure: Figure) -> str:
    """A figure as the address of an image that holds all of it. The same figure gives the same text."""
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return data_address(drawn.getvalue(), "image/svg+xml")


def data_address(content: bytes, form: str) -> str:
    """`data:<form>;base64,...`"""
    return f"data:{form};base64,{base64.b64encode(content).decode('ascii')}"


def width(figure: Figure) -> int:
    """In CSS pixels, at the size that it has in the paper."""
    return round(figure.get_figwidth() * PIXELS_PER_INCH)


def curves(series: Sequence[tuple[str, Points]]) -> Markup:
    """A panel of loss against step, a line for each of the series. kinds of series: `training` and `held-out`."""
    points = [point for _, line in series for point in line]
    last = max(step for step, _ in points)
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    wide, tall = last or 1, (high - low) or 1

    def at(point: tuple[float, float]) -> str:
        x = LEFT + (RIGHT - LEFT) * point[0] / wide
        return f"{x:.1f},{BOTTOM - (BOTTOM - TOP) * (point[1] - low) / tall:.1f}"

    lines = [
        Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(map(at, _thinned(line)))) for kind, line in series
    ]
    labels = [
        _label(LEFT - 4, TOP + 6, "end", f"{high:.3g}"),
        _label(LEFT - 4, BOTTOM, "end", f"{low:.3g}"),
        _label(LEFT, BOTTOM + 14, "start", "0"),
        _label(RIGHT, BOTTOM + 14, "end", f"{last:g} steps"),
    ]
    axes = Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(LEFT, TOP, BOTTOM, RIGHT)
    says = f"loss by step, from {high:.3g} to {low:.3g} in {last:g} steps; lines: {len(series)}"
    return _svg("curve", WIDTH, HEIGHT, says, [axes, *lines, *labels])


def held_against(row: Mapping[str, Any]) -> Markup:
    """The interval of a claim on a line, the criterion as the shaded part of it; nothing where nothing was measured.

    row: of claims.json. A bound without an end goes to the edge.
    """
    ((kind, level),) = row["criterion"].items()
    levels = level if kind == "within" else [level]
    ends = [_finite(row.get(key)) for key in ("low", "value", "high")]
    known = [end for end in ends if end is not None]
    if ends[1] is None:
        return Markup("")
    least, most = min([*known, *levels]), max([*known, *levels])
    margin = 0.15 * ((most - least) or abs(most) or 1)

    def x(value: float) -> float:
        return round(4 + 152 * (value - least + margin) / (most - least + 2 * margin), 1)

    shaded = {"above": (x(levels[0]), 160.0), "below": (0.0, x(levels[0])), "within": (x(levels[0]), x(levels[-1]))}[kind]
    # An end that is null is unknown, and nothing is drawn for it; one that is infinite lies beyond the edge.
    low = 0.0 if row.get("low") == "-inf" else x(ends[0] if ends[0] is not None else ends[1])
    high = 160.0 if row.get("high") == "inf" else x(ends[2] if ends[2] is not None else ends[1])
    parts = [
        Markup('<rect class="meets" x="{}" y="1" width="{:.1f}" height="16"/>').format(shaded[0], shaded[1] - shaded[0]),
        *(Markup('<path class="level" d="M{} 1V17"/>').format(x(one)) for one in levels),
        Markup('<path class="interval" d="M{} 9H{}"/>').format(low, high),
        Markup('<circle cx="{}" cy="9" r="3.5"/>').format(x(ends[1])),
    ]
    return _svg("held", 160, 18, "the interval, and what meets the criterion shaded", parts)


def _svg(name: str, wide: float, high: float, says: str, parts: Sequence[Markup]) -> Markup:
    start = Markup('<svg class="{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(name, wide, high, says)
    return start + Markup("").join(parts) + Markup("</svg>")


def _label(x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _thinned(points: Points) -> Points:
    every = math.ceil(len(points) / MOST_POINTS)
    kept = points[::every]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _finite(value: Any) -> float | None:
    """Numbers of JSON: null is unknown, and infinities are strings."""
    return float(value) if isinstance(value, int | float) else None
