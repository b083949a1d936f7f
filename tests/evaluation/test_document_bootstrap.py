"""Intervals over documents: against every resample there is, and where nothing can be said."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ripstop.config import ConfigError
from ripstop.evaluation.document_bootstrap import Interval, gap_closed, interval, loss_difference


def test_a_difference_is_of_sums_over_tokens() -> None:
    found = loss_difference(["a", "a", "b"], [1, 3, 4], [1.0, 2.0, 3.0], [2.0, 4.0, 2.0], 500)
    assert found.value == pytest.approx((8.0 - 6.0) / 8)
    assert found.n == 2


def test_whole_documents_are_resampled() -> None:
    """Two documents: a resample holds one of them twice, or both. Questions by themselves would give other ends."""
    found = loss_difference(["a", "a", "a", "b"], [1, 1, 1, 1], [0, 0, 0, 0], [1.0, 2.0, 3.0, 10.0], 4000)
    assert (found.low, found.high) == (pytest.approx(2.0), pytest.approx(10.0))
    one = loss_difference(["a", "a"], [1, 1], [0, 0], [1.0, 5.0], 100)
    assert (one.low, one.value, one.high) == (3.0, 3.0, 3.0)


def test_the_interval_is_that_of_every_resample_there_is() -> None:
    gains, tokens = np.array([0.3, -0.1, 0.9, 0.4, 0.2]), np.array([2.0, 3.0, 1.0, 2.0, 4.0])
    every = [gains[list(at)].sum() / tokens[list(at)].sum() for at in itertools.product(range(5), repeat=5)]
    found = loss_difference(list("abcde"), tokens, np.zeros(5), gains, 20_000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=0.01)


def test_both_sides_are_drawn_together() -> None:
    """What differs by the same in every document has no width, however much documents differ."""
    nats = np.array([1.0, 50.0, 7.0, 0.1])
    found = loss_difference(list("abcd"), np.ones(4), nats, nats + 0.5, 300)
    assert (found.low, found.value, found.high) == (pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5))


def test_the_part_of_a_gap_is_from_the_best_floor_of_each_resample() -> None:
    found = gap_closed(["a", "b"], [3.0, 3.0], [[4.0, 6.0], [5.0, 4.0]], [1.0, 1.0], 2000)
    assert found.value == pytest.approx((9 - 6) / (9 - 2))
    # of one document twice: floors 8 (of 8 and 10), then 8 (of 12 and 8); ceiling 2, own 6
    assert found.low == pytest.approx((8 - 6) / (8 - 2))
    assert gap_closed(["a"], [0.5], [[4.0]], [1.0], 10).value == pytest.approx(3.5 / 3)  # beyond its end
    assert gap_closed(["a"], [5.0], [[4.0]], [1.0], 10).value == pytest.approx(-1 / 3)  # the wrong way


def test_no_way_is_no_part_of_it() -> None:
    found = gap_closed(["a", "b"], [1.0, 1.0], [[2.0, 1.0]], [1.0, 2.0], 200)
    assert not found.is_known and not list(found.measurements("gap_closed", "share", {}))


def test_records() -> None:
    found = Interval(0.5, 0.25, 1.0, 7)
    made = list(found.measurements("loss_gain", "signed nats", {"reader": "first"}))
    assert [(m.value, m.slice["end"], m.n) for m in made] == [(0.5, "value", 7), (0.25, "low", 7), (1.0, "high", 7)]
    assert all(m.slice["reader"] == "first" and m.metric == "loss_gain" for m in made)


def test_the_same_answers_give_the_same_interval() -> None:
    given = (list("abcdef"), np.arange(6.0) + 1)
    assert interval(given[0], [given[1]], lambda s: s[..., 0], 50) == interval(given[0], [given[1]], lambda s: s[..., 0], 50)
    with pytest.raises(ConfigError, match="needs a question"):
        loss_difference([], [], [], [], 10)
