"""The median's interval by order statistics: ranks worked out by hand, and its promise kept by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ripstop.config import ConfigError
from ripstop.medians import median_interval
from ripstop.statistics import Estimate


@pytest.mark.parametrize(
    ("n", "ranks"),
    # 1 - 2 P(B(n, 1/2) < k) is at least 0.95 for k = 1 from n = 6 on, 2 from 9, 3 from 12, 4 from 15, and 8 at 25.
    [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (11, (2, 10)), (12, (3, 10)), (14, (3, 12)), (15, (4, 12)), (25, (8, 18))],
)
def test_the_ranks(n: int, ranks: tuple[int, int]) -> None:
    values = np.arange(1, n + 1)[::-1] ** 2.0  # the value tells its rank
    found = median_interval(values, "seconds")
    assert (found.low, found.high) == (ranks[0] ** 2, ranks[1] ** 2)
    assert (found.value, found.n, found.unit) == (np.median(values), n, "seconds")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_values_have_no_interval(n: int) -> None:
    found = median_interval(list(range(n)), "ms")
    assert found.value == (n - 1) / 2 and math.isnan(found.low) and math.isnan(found.high) and found.n == n


def test_nothing_and_what_is_no_number() -> None:
    assert median_interval([]).n == 0 and math.isnan(median_interval([]).value)
    for bad in (math.nan, math.inf):
        with pytest.raises(ConfigError, match="must be finite"):
            median_interval([1.0, bad])


def test_it_holds_the_median_as_often_as_it_says_whatever_the_distribution() -> None:
    rng = np.random.default_rng(0)
    for draw, median in ((lambda n: rng.lognormal(0, 2, n), 1.0), (lambda n: rng.standard_cauchy(n), 0.0)):
        found: list[Estimate] = [median_interval(draw(12)) for _ in range(2000)]
        assert 0.945 < np.mean([e.low <= median <= e.high for e in found]) < 0.975  # 0.961
