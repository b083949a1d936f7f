"""Statistics against pencil and paper, exact enumeration, and known parameters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ripstop.statistics import (
    Capacity,
    Estimate,
    by_common_seed,
    capacity_interval,
    difference_interval,
    fit_logistic,
    geometric_mean,
    mean_interval,
    tail,
)

PAIRS = np.array([4, 8, 16, 32, 64])


def test_mean_of_three_seeds_has_their_range_as_interval():
    # 1 of 27 resamples is all-lowest, so the 2.5 % percentile is the lowest value.
    found = mean_interval([0.3, 0.1, 0.7], unit="fraction")
    assert found.value == pytest.approx(1.1 / 3)
    assert (found.low, found.high) == pytest.approx((0.1, 0.7))
    assert (found.n, found.unit) == (3, "fraction")


def test_mean_interval_is_the_expanded_percentile_of_all_resamples():
    values = [0.0, 1.0, 2.0, 4.0, 8.0]
    means = np.sort([np.mean(row) for row in itertools.product(values, repeat=5)])
    # t(0.975, 4) = 2.776; 2.776 sqrt(5 / 4) = 3.104, beyond which the normal has 0.000955
    low, high = np.quantile(means, [0.000955, 1 - 0.000955])
    found = mean_interval(values)
    assert found.low == pytest.approx(low, abs=0.25)
    assert found.high == pytest.approx(high, abs=0.25)


def test_mean_interval_is_a_function_of_its_input():
    values = np.random.default_rng(5).normal(size=11)
    assert mean_interval(values) == mean_interval(values)


def test_few_values():
    assert mean_interval([]) == mean_interval(pd.Series(dtype=float))
    assert mean_interval([]).n == 0
    one = mean_interval([0.25])
    assert (one.value, one.n) == (0.25, 1) and math.isnan(one.low) and math.isnan(one.high)
    # a mean of equal values that is rounded would lie outside of its own interval
    equal = mean_interval([0.1, 0.1, 0.1])
    assert (equal.value, equal.low, equal.high) == (0.1, 0.1, 0.1)


def test_a_diverged_run_is_not_averaged_away():
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.1, math.nan])


def test_coverage_is_what_the_module_says():
    rng = np.random.default_rng(11)
    for n, promised in ((2, 0.50), (3, 0.75), (5, 0.92)):
        hits = [(lambda e: e.low <= 0 <= e.high)(mean_interval(rng.normal(size=n))) for _ in range(250)]
        # 250 trials: three standard errors are below 0.1
        assert abs(np.mean(hits) - promised) < 0.1


def test_paired_difference_cancels_what_a_seed_does_to_both():
    a = pd.Series({0: 10.5, 1: 20.25, 2: 30.75})
    b = pd.Series({2: 30.0, 0: 10.0, 1: 20.0})  # the same seeds in another order
    found = difference_interval(a, b)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.25, 0.75))
    assert difference_interval(b, a).value == pytest.approx(-0.5)


def test_paired_values_must_be_of_the_same_seeds():
    with pytest.raises(ValueError, match="same seeds"):
        difference_interval(pd.Series({0: 1.0, 1: 2.0}), pd.Series({0: 1.0, 2: 2.0}))
    with pytest.raises(ValueError, match="twice"):
        difference_interval(pd.Series([1.0, 2.0], index=[0, 0]), pd.Series([1.0, 2.0], index=[0, 0]))


def test_difference_of_one_and_of_equal_pairs():
    one = difference_interval(pd.Series({3: 1.0}), pd.Series({3: 0.25}))
    assert (one.value, one.n) == (0.75, 1) and math.isnan(one.low)
    same = difference_interval(pd.Series({0: 1.0, 1: 2.0}), pd.Series({0: 0.5, 1: 1.5}), "nats")
    assert same == Estimate(0.5, 0.5, 0.5, 2, "nats")


def test_values_side_by_side_by_seed():
    table = by_common_seed([pd.Series({2: 3.0, 1: 1.0}), pd.Series({1: 10.0, 2: 30.0})])
    assert table.loc[1].tolist() == [1, 10] and table.loc[2].tolist() == [3, 30]


@settings(max_examples=60, deadline=None)
@given(
    midpoint=st.floats(2.3, 5.7),
    slope=st.floats(0.6, 6.0),
    chance=st.sampled_from([0.0, 1 / 64, 0.25]),
    scale=st.floats(0.1, 50),
)
def test_fit_finds_the_curve_that_made_the_points(midpoint, slope, chance, scale):
    recall = chance + (1 - chance) * special.expit(-slope * (np.log2(PAIRS) - midpoint))
    found = fit_logistic(PAIRS, recall, weights=np.full(5, scale), chance=chance)
    assert found.censored == "no"
    assert math.log2(found.value) == pytest.approx(midpoint, abs=0.02)


def test_fit_by_hand():
    # half way between 1 and 0.2 is 0.6, and the points are symmetric about 16 pairs on the log axis
    found = fit_logistic([4, 8, 16, 32, 64], [0.98, 0.9, 0.6, 0.3, 0.22], chance=0.2)
    assert found.value == pytest.approx(16, rel=1e-3)


def test_weights_decide_between_points_that_disagree():
    x, y = [8, 8, 16, 32], [0.9, 0.3, 0.5, 0.1]
    trusting_high = fit_logistic(x, y, weights=[100, 1, 1, 1]).value
    trusting_low = fit_logistic(x, y, weights=[1, 100, 1, 1]).value
    assert trusting_low < trusting_high


@pytest.mark.parametrize(
    ("recall", "expected"),
    [
        ([1, 1, 1, 1, 1], Capacity(64, "above")),
        ([1, 1, 0.99, 0.9, 0.7], Capacity(64, "above")),
        ([0.3, 0.1, 0.02, 0.02, 0.02], Capacity(4, "below")),
        ([0, 0, 0, 0, 0], Capacity(4, "below")),
    ],
)
def test_a_curve_that_does_not_cross_is_censored_not_extrapolated(recall, expected):
    found = fit_logistic(PAIRS, recall, chance=0.02)
    assert found == expected


def test_step_rising_and_single_point_curves():
    step = fit_logistic(PAIRS, [1, 1, 0, 0, 0])
    assert step.censored == "no" and 8 < step.value < 16
    # a rising curve has no capacity: whatever is said, it is not a number inside the range
    assert fit_logistic(PAIRS, [0.1, 0.2, 0.4, 0.6, 0.9]).censored in ("above", "below")
    assert fit_logistic([8], [0.9]).censored == "above"
    with pytest.raises(ValueError, match="at least one x"):
        fit_logistic([], [])
    with pytest.raises(ValueError, match="chance"):
        fit_logistic([8], [0.9], chance=1.0)


def test_capacity_interval_is_geometric_and_open_where_censored():
    found = capacity_interval([Capacity(8), Capacity(32), Capacity(16)])
    assert found.value == pytest.approx(16)
    assert (found.low, found.high) == pytest.approx((8, 32))
    bound = capacity_interval([Capacity(64, "above"), Capacity(16)])
    assert bound.value == pytest.approx(32) and bound.low == pytest.approx(16) and bound.high == math.inf
    assert capacity_interval([Capacity(4, "below"), Capacity(4, "below")]).low == -math.inf
    both = capacity_interval([Capacity(64, "above"), Capacity(4, "below")])
    assert math.isnan(both.value) and (both.low, both.high) == (-math.inf, math.inf)
    assert capacity_interval([]).n == 0


def test_geometric_mean_by_hand():
    found = geometric_mean([2, 8], "pairs")
    assert (found.value, found.low, found.high, found.n, found.unit) == (4, 2, 8, 2, "pairs")
    assert geometric_mean([]).n == 0


@pytest.mark.parametrize(
    ("n", "outside"),
    # Student's t for n - 1 at 97.5 %, times the root of n / (n - 1), is a quantile of the normal:
    # 12.706 * 1.4142 = 17.97; 4.3027 * 1.2247 = 5.2697; 2.7764 * 1.1180 = 3.1042; 1.9623 * 1.0005 = 1.9633
    [(2, 0.0), (3, 6.83e-8), (5, 9.54e-4), (1000, 0.02481)],
)
def test_the_quantiles_of_a_bootstrap_by_hand(n: int, outside: float) -> None:
    low, high = tail(n)
    assert low == pytest.approx(outside, rel=2e-3, abs=1e-15)
    assert high == pytest.approx(1 - outside, abs=5e-5) and high > 0.5 > low


def test_an_estimate_that_cannot_be():
    with pytest.raises(ValueError, match="an interval from 2 to 1 ends before it begins"):
        Estimate(1.5, 2, 1, 3)
    with pytest.raises(ValueError, match="not on -1"):
        Estimate(1.5, 1, 2, -1)
    assert Estimate.unknown(0, "nats").n == 0 and Estimate.unknown(3).low == -math.inf


def test_multiplying_an_estimate():
    assert Estimate(8, 4, math.inf, 3, "pairs").times(0.25) == Estimate(2, 1, math.inf, 3, "")
    with pytest.raises(ValueError, match="positive"):
        Estimate(1.0).times(-1)


A, B = Estimate(10, 8, 13, 3, "pairs"), Estimate(4, 2, 5, 2, "pairs")
INF = math.inf


def test_minus_gives_the_widest_interval():
    assert A.minus(B) == Estimate(6, 3, 11, 2, "pairs")
    assert A.minus(A) == Estimate(0, -5, 5, 3, "pairs")
    # at least 10 minus at most 5 is at least 5; at least minus at least says nothing
    assert Estimate(10, 8, INF, 3).minus(B) == Estimate(6, 3, INF, 2)
    assert math.isnan(Estimate(10, 8, INF, 3).minus(Estimate(4, 2, INF, 2)).value)
    assert A.minus(Estimate.missing()).n == 0
    assert math.isnan(A.minus(Estimate(4)).low)  # one seed: unknown


def test_over_gives_the_widest_interval():
    found = A.over(B)
    assert found == Estimate(2.5, 8 / 5, 13 / 2, 2, "")
    assert Estimate(-10, -13, -8, 3).over(B) == Estimate(-2.5, -13 / 2, -8 / 5, 2)
    assert Estimate(1, -3, 5, 3).over(B) == Estimate(0.25, -3 / 2, 5 / 2, 2)
    assert A.over(Estimate(-4, -5, -2, 2)) == Estimate(-2.5, -13 / 2, -8 / 5, 2)
    for zero in (Estimate(4, -1, 5, 2), Estimate(0, 0, 0, 2), Estimate(4, -INF, 5, 2), Estimate.unknown(2)):
        unknown = A.over(zero)
        assert math.isnan(unknown.value) and (unknown.low, unknown.high, unknown.n) == (-INF, INF, 2)
    # over at least 4: at most 2.5
    assert A.over(Estimate(4, 2, INF, 2)) == Estimate(2.5, -INF, 13 / 2, 2)
    assert Estimate(10, 8, INF, 3).over(B) == Estimate(2.5, 8 / 5, INF, 2)
    assert A.over(Estimate.missing()).n == 0
    assert math.isnan(A.over(Estimate(4)).low)
