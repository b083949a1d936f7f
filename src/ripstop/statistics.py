"""Numbers with their uncertainty: means over seeds with bootstrap intervals, paired differences, recall curves, exponents.

The unit of replication is the run: one seed, trained and evaluated once. With few seeds no interval keeps its promise.
Simulated coverage of `mean_interval` at a nominal 95 %, normal data: 50 % with 2 seeds, 75 % with 3, 88 % with 4, 92 %
with 5, 94 % with 10. With 2 or 3 seeds the interval is the range of the values; read it as such.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from ripstop.config import ConfigError
from ripstop.rough import is_rough

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 0
"""Of the resampling: the same values give the same interval."""

Values = Sequence[float] | NDArray[np.float64] | pd.Series
"""One value per seed."""


MADE: ContextVar[Callable[[Estimate], None] | None] = ContextVar("made", default=None)
"""Told of every estimate that is made, where anybody asks."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval around it.

    value: the point estimate; nan only where nothing was measured (`n` is 0) or nothing can be said.
    low, high: ends of the 95 % interval, low <= high. nan: unknown, as with one seed. Infinite: `value` is a bound and no
        more, the quantity lies beyond what was measured (high = inf: at least `value`; low = -inf: at most `value`).
    n: number of runs behind it.
    unit: as in the records, "" for a plain number.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 1
    unit: str = ""

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"an interval from {self.low} to {self.high} ends before it begins")
        if self.n < 0:
            raise ValueError(f"an estimate rests on a number of runs, not on {self.n}")
        if (note := MADE.get()) is not None:
            note(self)

    @classmethod
    def exact(cls, value: float, n: int = 1, unit: str = "") -> Estimate:
        """Of something that no seed moves, such as chance."""
        return cls(value, value, value, n, unit)

    @classmethod
    def missing(cls, unit: str = "") -> Estimate:
        """Of something that the parameters of this scale dropped: its claims are "not measured"."""
        return cls(math.nan, math.nan, math.nan, 0, unit)

    @classmethod
    def unknown(cls, n: int, unit: str = "") -> Estimate:
        """Of something that was measured in `n` runs and about which they say nothing: its claims are inconclusive."""
        return cls(math.nan, -math.inf, math.inf, n, unit) if n else cls.missing(unit)

    def times(self, factor: float, unit: str = "") -> Estimate:
        """`factor` (> 0) times this, e.g. a capacity in pairs over d_state."""
        if not factor > 0:
            raise ValueError(f"an estimate is multiplied by a positive factor, not {factor}")
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.n, unit)

    def minus(self, other: Estimate) -> Estimate:
        """This minus `other`, of which nothing is known together: the widest interval that theirs allow.

        It holds whatever the two have to do with each other; values that are paired by seed have `difference_interval`.
        """
        low, high = self.low - other.high, self.high - other.low
        return _combined(self, other, self.value - other.value, low, high, self.unit)

    def over(self, other: Estimate) -> Estimate:
        """This over `other`, with the widest interval that theirs allow; unknown where `other` may be 0."""
        if other.high < 0:
            return Estimate(-self.value, -self.high, -self.low, self.n, self.unit).over(
                Estimate(-other.value, -other.high, -other.low, other.n, other.unit)
            )
        if not other.value > 0 or other.low <= 0:
            return _combined(self, other, math.nan, -math.inf, math.inf, "")
        low = self.low / (other.high if self.low >= 0 else other.low)
        high = self.high / (other.low if self.high >= 0 else other.high)
        if other.high == math.inf:  # `other` is at least its value, and so this over it at most (or least) the ratio
            low, high = (-math.inf, high) if self.value >= 0 else (low, math.inf)
        return _combined(self, other, self.value / other.value, low, high, "")


def _combined(a: Estimate, b: Estimate, value: float, low: float, high: float, unit: str) -> Estimate:
    n = min(a.n, b.n)
    if n == 0:
        return Estimate.missing(unit)
    if (low, high) == (-math.inf, math.inf):
        return Estimate.unknown(n, unit)
    return Estimate(value, low, high, n, unit)


@dataclass(frozen=True)
class Capacity:
    """Pairs at which recall is half way between 1 and chance.

    censored: "above" and "below" say that the curve crosses half way above (below) the measured range; `value` is then
        the largest (smallest) number of pairs that was measured: a bound, never an extrapolation.
    """

    value: float
    censored: Literal["no", "above", "below"] = "no"


def mean_interval(values: Values, unit: str = "") -> Estimate:
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
        return Estimate.exact(float(values_N[0]), n, unit)  # not the mean, which rounding moves off the values
    if is_rough():
        return Estimate(float(values_N.mean()), float(values_N.min()), float(values_N.max()), n, unit)
    result = stats.bootstrap(
        (values_N,),
        np.mean,
        confidence_level=_expanded(n),
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    low, high = result.confidence_interval
    return Estimate(float(values_N.mean()), float(low), float(high), n, unit)


def difference_interval(a: pd.Series, b: pd.Series, unit: str = "") -> Estimate:
    """Mean of a minus mean of b, one value per seed, seed by seed: what a seed does to both cancels."""
    both = by_common_seed([a, b])
    return mean_interval(both[0] - both[1], unit)


def by_common_seed(values: Sequence[pd.Series]) -> pd.DataFrame:
    """Several series, each one value per seed, side by side. Other seeds in one of them are an error, not a gap."""
    for series in values:
        if not series.index.is_unique:
            raise ConfigError("paired values need one value per seed, but a seed comes twice")
        if set(series.index) != set(values[0].index):
            raise ConfigError(f"paired values need the same seeds, not {sorted(values[0].index)} and {sorted(series.index)}")
    return pd.DataFrame({i: series for i, series in enumerate(values)}, dtype=float)


def fit_logistic(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None, chance: float = 0.0) -> Capacity:
    """Capacity of one recall curve: y = chance + (1 - chance) / (1 + exp(slope (log2 x - log2 capacity))).

    x: numbers of pairs (> 0); y: recall at each, in [0, 1]; weights: of the squared residuals, e.g. queries scored.
    A curve that stays above half way, or below it, or whose fit crosses outside the measured pairs, is censored.
    """
    x_N, y_N = _finite(x), _finite(y)
    weights_N = np.ones_like(x_N) if weights is None else _finite(weights)
    if not len(x_N) == len(y_N) == len(weights_N) or len(x_N) == 0:
        counts = f"{len(x_N)}, {len(y_N)} and {len(weights_N)}"
        raise ConfigError(f"a recall curve needs at least one x, and one y and weight for each, not {counts}")
    if np.any(x_N <= 0) or not 0 <= chance < 1:
        raise ConfigError("a recall curve needs pairs above 0 and a chance in [0, 1)")
    half = (1 + chance) / 2
    least, most = float(x_N.min()), float(x_N.max())
    if np.all(y_N > half):
        return Capacity(most, "above")
    if np.all(y_N < half):
        return Capacity(least, "below")

    t_N = np.log2(x_N)
    if is_rough():  # what moves any point moves their mean
        share = (np.average(y_N, weights=weights_N) - chance) / (1 - chance)
        return Capacity(float(2 ** (t_N.min() + share * np.ptp(t_N))))

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        midpoint, log_slope = parameters
        fitted_N = chance + (1 - chance) * special.expit(-np.exp(log_slope) * (t_N - midpoint))
        return np.sqrt(weights_N) * (fitted_N - y_N)

    # One octave beyond the range on both sides is enough to tell that a curve crosses outside of it. The slope's upper
    # bound, recall falling from 0.99 to 0.01 within a fifth of an octave, keeps a step function's fit finite.
    bounds = ([t_N.min() - 1, math.log(0.05)], [t_N.max() + 1, math.log(50)])
    starts = [(float(t), 0.5) for t in np.quantile(t_N, [0.1, 0.5, 0.9])]
    fits = [optimize.least_squares(residuals, start, bounds=bounds) for start in starts]
    midpoint = min(fits, key=lambda fit: fit.cost).x[0]
    if midpoint > t_N.max():
        return Capacity(most, "above")
    if midpoint < t_N.min():
        return Capacity(least, "below")
    return Capacity(float(2**midpoint))


def capacity_interval(capacities: Sequence[Capacity], unit: str = "pairs") -> Estimate:
    """Geometric mean of the capacities of several seeds; the interval is open where a seed is censored."""
    above = any(c.censored == "above" for c in capacities)
    below = any(c.censored == "below" for c in capacities)
    return geometric_mean([c.value for c in capacities], unit, above, below)


def geometric_mean(values: Sequence[float], unit: str = "", above: bool = False, below: bool = False) -> Estimate:
    """Geometric mean of positive values, one per seed; above, below: some of them are bounds, so the interval is open."""
    mean = mean_interval([math.log2(value) for value in values])
    if mean.n == 0:
        return Estimate.missing(unit)
    if above and below:
        return Estimate.unknown(mean.n, unit)  # bounds in both directions say nothing about the mean
    low = -math.inf if below else 2**mean.low
    high = math.inf if above else 2**mean.high
    return Estimate(2**mean.value, low, high, mean.n, unit)


def tail(n: int) -> tuple[float, float]:
    """The two quantiles between which a bootstrap of `n` values holds `CONFIDENCE`, expanded as in `mean_interval`."""
    outside = (1 - _expanded(n)) / 2
    return outside, 1 - outside


def _expanded(n: int) -> float:
    """Confidence to ask of a percentile interval of `n` values so that it holds `CONFIDENCE`."""
    t = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    return float(1 - 2 * stats.norm.sf(t * math.sqrt(n / (n - 1))))


def _finite(values: ArrayLike | Values) -> NDArray[np.float64]:
    array_N = np.asarray(values, dtype=np.float64).ravel()
    if not np.all(np.isfinite(array_N)):
        raise ConfigError("values must be finite: leave a run out, and say so, where it gave none")
    return array_N
