"""What recall costs in bytes: the efficient set, and the bytes at which a level of recall is reached."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from matplotlib.axes import Axes

from ripstop.statistics import Capacity, Estimate, geometric_mean

LEAST_PAIRS = 3
"""Recall is compared at this many numbers of pairs from the last one, a quarter of the most where they double."""

K = TypeVar("K", bound=Hashable)


def efficient(points: Mapping[K, tuple[float, float]]) -> list[K]:
    """Of (bytes, recall) by name those that nothing beats: no other has as much recall for fewer bytes, or more for as many.

    In the order of their bytes.
    """
    members: list[K] = []
    best = -math.inf
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if points[name][1] > best:
            best = points[name][1]
            members.append(name)
    return members


def staircase(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """The most recall for so many bytes, from the efficient set in the order of its bytes."""
    right = ax.get_xlim()[1]
    x, y = [*(x for x, _ in points), right], [*(y for _, y in points), points[-1][1]]
    line = {"color": "0.35", "linestyle": (0, (4, 3)), "linewidth": 0.8, "zorder": 1}
    ax.step(x, y, where="post", label="efficient set", **line)  # type: ignore[arg-type]
    ax.set_xlim(right=right)


def bytes_for(level: float, curve: Sequence[tuple[float, float]]) -> Capacity:
    """Bytes at which recall first reaches `level` along (bytes, recall) of rising bytes, on a straight line in their logarithm.

    Censored "below" where the smallest memory has it already, "above" where the largest has not.
    """
    (least, first), *_ = curve
    if first >= level:
        return Capacity(least, "below")
    for (small, before), (large, after) in zip(curve, curve[1:], strict=False):
        if after >= level:
            return Capacity(small * (large / small) ** ((level - before) / (after - before)))
    return Capacity(curve[-1][0], "above")


def ratio(own: Mapping[int, Capacity], other: Mapping[int, Capacity]) -> Estimate:
    """Bytes of one mixer over those of another, seed by seed: the geometric mean, a bound where one of the bytes is."""
    seeds = sorted(own.keys() & other.keys())
    pairs = [(own[seed], other[seed]) for seed in seeds]
    above = any(a.censored == "above" or b.censored == "below" for a, b in pairs)
    below = any(a.censored == "below" or b.censored == "above" for a, b in pairs)
    return geometric_mean([a.value / b.value for a, b in pairs], "", above, below)
