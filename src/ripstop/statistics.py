"""Numbers with their uncertainty: means over seeds with bootstrap intervals, paired tests, recall curves, exponents.

The unit of replication is the run: one seed, trained and evaluated once. With few seeds no interval keeps its promise.
Simulated coverage of `mean_interval` at a nominal 95 %, normal data: 50 % with 2 seeds, 75 % with 3, 88 % with 4, 92 %
with 5, 94 % with 10. With 2 or 3 seeds the interval is the range of the values; read it as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

RESAMPLES = 9999

Values = Sequence[float] | NDArray[np.float64] | pd.Series
"""One value per seed. A `Series` is indexed by seed, and pairs are then matched by seed, not by position."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval around it.

    value: the point estimate; nan only where nothing was measured (`n` is 0) or nothing can be said.
    low, high: ends of the 95 % interval. nan: unknown, as with one seed. Infinite: `value` is a bound and no more, the
        quantity lies beyond what was measured (high = inf: at least `value`; low = -inf: at most `value`).
    n: number of runs behind it.
    unit: as in the records, "" for a plain number.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 1
    unit: str = ""

    @classmethod
    def missing(cls, unit: str = "") -> Estimate:
        """Of something that was not run at this scale: its claims are "not measured"."""
        return cls(math.nan, math.nan, math.nan, 0, unit)

    def scaled(self, factor: float, unit: str = "") -> Estimate:
        """`factor` (> 0) times this, e.g. a capacity in pairs over d_state."""
        if not factor > 0:
            raise ValueError(f"an estimate is scaled by a positive factor, not {factor}")
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.n, unit)


@dataclass(frozen=True)
class Capacity:
    """Pairs at which recall is half way between 1 and chance.

    censored: "above" and "below" say that the curve crosses half way above (below) the measured range; `value` is then
        the largest (smallest) number of pairs that was measured: a bound, never an extrapolation.
    slope: steepness of the fall per doubling of the pairs; nan where censored.
    """

    value: float
    censored: Literal["no", "above", "below"] = "no"
    slope: float = math.nan


def mean_interval(values: Values, confidence: float = 0.95, seed: int = 0, unit: str = "") -> Estimate:
    """Mean over seeds with its expanded percentile bootstrap interval (Hesterberg 2015, section 5.3).

    The plain percentile interval is too short by sqrt((n - 1) / n) and uses the normal where Student's t belongs; the
    expanded one asks for the percentiles that make up for both. One value: the interval is unknown (nan).
    No value: `Estimate.missing`.
    """
    values_N = _finite(values)
    n = len(values_N)
    if n == 0:
        return Estimate.missing(unit)
    if n == 1:
        return Estimate(float(values_N[0]), n=1, unit=unit)
    if np.ptp(values_N) == 0:
        value = float(values_N[0])  # not the mean, which rounding moves off the values
        return Estimate(value, value, value, n, unit)
    result = stats.bootstrap(
        (values_N,),
        np.mean,
        confidence_level=_expanded(confidence, n),
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(float(values_N.mean()), float(low), float(high), n, unit)


def difference_interval(
    a: Values, b: Values, paired: bool = True, confidence: float = 0.95, seed: int = 0, unit: str = ""
) -> Estimate:
    """Mean of a minus mean of b. Paired: seed by seed, so that what a seed does to both cancels.

    Not paired: a and b are resampled independently; fewer than 2 values on a side leave the interval unknown.
    """
    if paired:
        return mean_interval(_pairs(a, b), confidence, seed, unit)
    a_N, b_N = _finite(a), _finite(b)
    if min(len(a_N), len(b_N)) == 0:
        return Estimate.missing(unit)
    n = min(len(a_N), len(b_N))
    value = float(a_N.mean() - b_N.mean())
    if n == 1:
        return Estimate(value, n=1, unit=unit)
    if np.ptp(a_N) == 0 and np.ptp(b_N) == 0:
        return Estimate(value, value, value, n, unit)
    result = stats.bootstrap(
        (a_N, b_N),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        confidence_level=_expanded(confidence, n),
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(low), float(high), n, unit)


def paired_test(a: Values, b: Values, seed: int = 0) -> float:
    """Two-sided p-value of "a and b do not differ": a permutation test that flips the signs of the differences.

    Exact up to 13 pairs (2^13 sign patterns), sampled above. With n pairs p is never below 2^(1 - n): 5 seeds cannot
    give less than 0.0625.
    """
    differences_N = _pairs(a, b)
    if len(differences_N) < 2:
        raise ValueError(f"a paired test needs at least 2 pairs, not {len(differences_N)}")
    result = stats.permutation_test(
        (differences_N,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def fit_logistic(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None, chance: float = 0.0) -> Capacity:
    """Capacity of one recall curve: y = chance + (1 - chance) / (1 + exp(slope (log2 x - log2 capacity))).

    x: numbers of pairs (> 0); y: recall at each, in [0, 1]; weights: of the squared residuals, e.g. queries scored.
    A curve that stays above half way, or below it, or whose fit crosses outside the measured pairs, is censored.
    """
    x_N, y_N = _finite(x), _finite(y)
    weights_N = np.ones_like(x_N) if weights is None else _finite(weights)
    if not len(x_N) == len(y_N) == len(weights_N) or len(x_N) == 0:
        lengths = f"{len(x_N)}, {len(y_N)} and {len(weights_N)}"
        raise ValueError(f"a recall curve needs at least one x, and one y and weight for each, not {lengths}")
    if np.any(x_N <= 0) or not 0 <= chance < 1:
        raise ValueError("a recall curve needs pairs above 0 and a chance in [0, 1)")
    half = (1 + chance) / 2
    least, most = float(x_N.min()), float(x_N.max())
    if np.all(y_N > half):
        return Capacity(most, "above")
    if np.all(y_N < half):
        return Capacity(least, "below")

    t_N = np.log2(x_N)

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        midpoint, log_slope = parameters
        fitted_N = chance + (1 - chance) * special.expit(-np.exp(log_slope) * (t_N - midpoint))
        return np.sqrt(weights_N) * (fitted_N - y_N)

    # One octave beyond the range on both sides is enough to tell that a curve crosses outside of it. The slope's upper
    # bound, recall falling from 0.99 to 0.01 within a fifth of an octave, keeps a step function's fit finite.
    bounds = ([t_N.min() - 1, math.log(0.05)], [t_N.max() + 1, math.log(50)])
    starts = [(float(t), 0.5) for t in np.quantile(t_N, [0.1, 0.5, 0.9])]
    fits = [optimize.least_squares(residuals, start, bounds=bounds) for start in starts]
    midpoint, log_slope = min(fits, key=lambda fit: fit.cost).x
    if midpoint > t_N.max():
        return Capacity(most, "above")
    if midpoint < t_N.min():
        return Capacity(least, "below")
    return Capacity(float(2**midpoint), "no", float(np.exp(log_slope)))


def capacity_interval(capacities: Sequence[Capacity], unit: str = "pairs") -> Estimate:
    """Geometric mean of the capacities of several seeds; the interval is open where a seed is censored."""
    above = any(c.censored == "above" for c in capacities)
    below = any(c.censored == "below" for c in capacities)
    return _geometric([math.log2(c.value) for c in capacities], above, below, unit)


def capacity_ratio(a: Sequence[Capacity], b: Sequence[Capacity]) -> Estimate:
    """Geometric mean of a / b, seed by seed; the interval is open where a censored curve makes it a bound."""
    above = any(c.censored == "above" for c in a) or any(c.censored == "below" for c in b)
    below = any(c.censored == "below" for c in a) or any(c.censored == "above" for c in b)
    return _geometric([math.log2(p.value / q.value) for p, q in zip(a, b, strict=True)], above, below, "")


def power_law(x: ArrayLike, y: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Exponent e of y = c x^e: the slope in log-log, with a bootstrap interval over the points (one point per run).

    x, y: above 0. Leave censored capacities out before; they would flatten it. Fewer than 2 different x: missing;
    fewer than 3 points: the interval is unknown.
    """
    x_N, y_N = _finite(x), _finite(y)
    if len(x_N) != len(y_N):
        raise ValueError(f"a power law needs one y per x, not {len(x_N)} and {len(y_N)}")
    if np.any(x_N <= 0) or np.any(y_N <= 0):
        raise ValueError("a power law needs x and y above 0")
    if len(np.unique(x_N)) < 2:
        return Estimate.missing()
    log_x_N, log_y_N = np.log(x_N), np.log(y_N)
    value = float(_slope(log_x_N, log_y_N))
    n = len(x_N)
    if n < 3:
        return Estimate(value, n=n)
    rows_RN = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    slopes_R = _slope(log_x_N[rows_RN], log_y_N[rows_RN])
    tail = (1 - _expanded(confidence, n)) / 2
    # A resample that holds a single x has no slope; nanquantile leaves it out.
    low, high = np.nanquantile(slopes_R, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n)


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope along the last axis; nan where x does not vary."""
    dx = x - x.mean(-1, keepdims=True)
    dy = y - y.mean(-1, keepdims=True)
    spread = (dx * dx).sum(-1)
    varies = np.ptp(x, axis=-1) > 0
    return np.where(varies, (dx * dy).sum(-1) / np.where(varies, spread, 1), np.nan)


def _geometric(log2_values: Sequence[float], above: bool, below: bool, unit: str) -> Estimate:
    mean = mean_interval(log2_values)
    if mean.n == 0 or (above and below):
        # Bounds in both directions say nothing about the mean.
        return Estimate(math.nan, -math.inf, math.inf, mean.n, unit) if mean.n else Estimate.missing(unit)
    low = -math.inf if below else 2**mean.low
    high = math.inf if above else 2**mean.high
    return Estimate(2**mean.value, low, high, mean.n, unit)


def _expanded(confidence: float, n: int) -> float:
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(1 - 2 * stats.norm.sf(t * math.sqrt(n / (n - 1))))


def _pairs(a: Values, b: Values) -> NDArray[np.float64]:
    a_S, b_S = pd.Series(a, dtype=float), pd.Series(b, dtype=float)
    for series in (a_S, b_S):
        if not series.index.is_unique:
            raise ValueError("paired values need one value per seed, but a seed comes twice")
    if set(a_S.index) != set(b_S.index):
        raise ValueError(f"paired values need the same seeds, not {sorted(a_S.index)} and {sorted(b_S.index)}")
    return _finite(a_S - b_S.loc[a_S.index])


def _finite(values: ArrayLike | Values) -> NDArray[np.float64]:
    array_N = np.asarray(values, dtype=np.float64).ravel()
    if not np.all(np.isfinite(array_N)):
        raise ValueError("values must be finite: leave a run out, and say so, where it gave none")
    return array_N
