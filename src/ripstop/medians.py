"""The median of repeated measurements, with an interval that assumes nothing of how they are distributed."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ripstop.config import ConfigError
from ripstop.statistics import CONFIDENCE, Estimate


def median_interval(values: ArrayLike, unit: str = "") -> Estimate:
    """Median, and the innermost pair of values, counted from both ends, that holds it with at least `CONFIDENCE`.

    Each value lies below the median with probability 1/2, whatever the distribution: how many do is binomial, so that the
    k-th smallest and the k-th largest of n enclose it with probability 1 - 2 P(B(n, 1/2) < k) (David and Nagaraja 2003,
    Order Statistics, section 7.1). Six values are the fewest with such a pair; fewer leave the interval unknown (nan).
    `Estimate.n` is the number of values. No value: `Estimate.missing`.
    """
    values_N = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if not np.all(np.isfinite(values_N)):
        raise ConfigError("values must be finite: leave a measurement out, and say so, where it gave none")
    n = len(values_N)
    if n == 0:
        return Estimate.missing(unit)
    median = float(np.median(values_N))
    k = _rank(n)
    if k == 0:
        return Estimate(median, n=n, unit=unit)
    return Estimate(median, float(values_N[k - 1]), float(values_N[n - k]), n, unit)


@functools.cache
def _rank(n: int) -> int:
    """The largest k whose interval promises enough; 0 where none does."""
    return max((k for k in range(1, n // 2 + 1) if 1 - 2 * stats.binom.cdf(k - 1, n, 0.5) >= CONFIDENCE), default=0)
