"""The efficient set, and the bytes that a level of recall takes: worked out by hand."""

from __future__ import annotations

import math

import pytest

from ripstop.paper import frontier, style
from ripstop.statistics import Capacity


def test_nothing_beats_a_member_of_the_efficient_set() -> None:
    points = {
        "least": (10, 0.2), "worse for as many": (10, 0.1), "as good for more": (20, 0.2), "better": (30, 0.5),
        "beaten": (40, 0.4), "best": (50, 1.0), "as good as the best": (60, 1.0),
    }  # fmt: skip
    assert frontier.efficient(points) == ["least", "better", "best"]
    assert frontier.efficient(dict(reversed(points.items()))) == ["least", "better", "best"]
    assert frontier.efficient({}) == []


def test_the_staircase_rises_where_a_member_begins() -> None:
    with style.style():
        ax = style.figure().subplots()
        ax.set_xlim(0, 100)
        frontier.staircase(ax, [(10, 0.2), (30, 0.5)])
    (line,) = ax.get_lines()
    assert line.get_xydata().tolist() == [[10, 0.2], [30, 0.5], [100, 0.5]]
    assert line.get_drawstyle() == "steps-post" and line.get_label() == "efficient set"
    assert ax.get_xlim() == (0, 100)


CURVE = [(1000, 0.1), (4000, 0.7), (16000, 0.9)]


@pytest.mark.parametrize(
    ("level", "curve", "wanted"),
    [
        (0.4, CURVE, Capacity(2000)),  # half way in recall is half way in the logarithm
        (0.8, CURVE, Capacity(8000)),
        (0.9, CURVE, Capacity(16000)),
        (0.95, CURVE, Capacity(16000, "above")),
        (0.1, CURVE, Capacity(1000, "below")),
        (0.05, CURVE, Capacity(1000, "below")),
        (0.5, [(1000, 0.1), (4000, 0.9), (16000, 0.2)], Capacity(2000)),  # the first time
        (0.5, [(1000, 0.4)], Capacity(1000, "above")),
    ],
)
def test_bytes_for_a_level(level: float, curve: list[tuple[float, float]], wanted: Capacity) -> None:
    found = frontier.bytes_for(level, curve)
    assert (found.value, found.censored) == (pytest.approx(wanted.value), wanted.censored)


def test_a_ratio_is_paired_by_seed_and_a_bound_where_one_of_its_sides_is() -> None:
    own, other = {0: Capacity(1000), 1: Capacity(4000)}, {1: Capacity(8000), 0: Capacity(8000), 2: Capacity(1)}
    found = frontier.ratio(own, other)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.25, 0.125, 0.5, 2))
    at_least = frontier.ratio(own | {1: Capacity(4000, "above")}, other)
    assert (at_least.value, at_least.high) == (pytest.approx(0.25), math.inf) and at_least.low == pytest.approx(0.125)
    at_most = frontier.ratio(own, other | {1: Capacity(8000, "above")})
    assert (at_most.low, at_most.high) == (-math.inf, pytest.approx(0.5))
    assert frontier.ratio({0: Capacity(1, "below")}, {0: Capacity(1)}).low == -math.inf
    assert frontier.ratio({0: Capacity(1)}, {0: Capacity(1, "below")}).high == math.inf
    both = frontier.ratio(own | {1: Capacity(4000, "above")}, other | {0: Capacity(8000, "above")})
    assert (both.low, both.high) == (-math.inf, math.inf)
    assert frontier.ratio({}, other).n == 0
