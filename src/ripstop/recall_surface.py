"""How capacity grows with the state: one model of recall for all runs, so that a curve that never crosses half still counts.

Recall of n pairs with a state of size S is modelled as

    r(n, S) = c + (1 - c) sigmoid(-k (log2 n - m - e log2 S)),

c the chance level. Half way to chance lies at n = 2^m S^e: e is the exponent with which capacity grows, and a curve that
stays above or below half inside the tested pairs still says by its shape where it bends. This is the curve that
`statistics.fit_logistic` fits to one run, with its midpoint a line in log S and its slope shared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from ripstop.config import ConfigError
from ripstop.rough import is_rough
from ripstop.statistics import SEED, Estimate, tail

RESAMPLES = 999
"""Fewer than for a mean: each is a fit of its own, and an end of the interval moves by about a tenth of its width."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """exponent: e. slope: k, per octave of pairs. residual: root of the mean squared distance to the measured recall."""

    exponent: Estimate
    slope: float
    midpoint: float
    residual: float

    def capacity(self, size: float) -> float:
        """Pairs at half recall with a state of `size`."""
        return float(2.0**self.midpoint * size**self.exponent.value)


def fit_surface(
    pairs: ArrayLike, size: ArrayLike, recall: ArrayLike, run: ArrayLike, chance: float, interval: bool = True
) -> Surface:
    """Least squares over all points of all runs; the interval is a bootstrap over runs, drawn within each size.

    pairs, size: above 0; recall: in [0, 1]; run: which points belong together. All of one length. Fewer than 2 sizes, or
    curves that are all flat at one end: the exponent is unknown. One run a size, or no `interval` asked for: its interval is.
    """
    n, s, r = _array(pairs), _array(size), _array(recall)
    runs = np.asarray(run).ravel()
    if not len(n) == len(s) == len(r) == len(runs):
        raise ConfigError(f"a recall surface needs one of each, not {len(n)}, {len(s)}, {len(r)} and {len(runs)}")
    if np.any(n <= 0) or np.any(s <= 0) or not 0 <= chance < 1:
        raise ConfigError("a recall surface needs pairs and sizes above 0 and a chance in [0, 1)")
    log_n, log_s = np.log2(n), np.log2(s)
    names = np.unique(runs).tolist()  # sorted: the draws do not depend on the order of the rows
    half = (1 + chance) / 2
    if len(np.unique(log_s)) < 2 or np.all(r > half) or np.all(r < half):
        return Surface(Estimate.unknown(len(names)), math.nan, math.nan, math.nan)
    if is_rough():
        return _plane(log_n, log_s, (r - chance) / (1 - chance), len(names))
    best = min((_fit(log_n, log_s, r, chance, start) for start in _starts(log_n)), key=lambda fit: fit.cost)
    residual = math.sqrt(2 * best.cost / len(r))
    rows = {name: np.flatnonzero(runs == name) for name in names}
    strata = [[rows[name] for name in names if log_s[rows[name][0]] == value] for value in np.unique(log_s)]
    estimate = Estimate(float(best.x[2]), n=len(names))
    if interval and min(map(len, strata)) > 1:
        random = np.random.default_rng(SEED)
        drawn = []
        for _ in range(RESAMPLES):
            chosen = [group[i] for group in strata for i in random.integers(len(group), size=len(group))]
            at = np.concatenate(chosen)
            drawn.append(_fit(log_n[at], log_s[at], r[at], chance, best.x).x[2])
        low, high = np.quantile(drawn, tail(min(map(len, strata))))
        estimate = Estimate(float(best.x[2]), float(low), float(high), len(names))
    return Surface(estimate, float(math.exp(best.x[1])), float(best.x[0]), residual)


def _plane(log_n: Array, log_s: Array, r: Array, n: int) -> Surface:
    """The plane through all points in place of the curve's middle: recall = a - k (log2 n - e log2 S)."""
    columns = np.stack([np.ones_like(r), -log_n, log_s], axis=1)
    (a, slope, rise), *_ = np.linalg.lstsq(columns, r)
    exponent, residual = rise / slope, math.sqrt(np.mean((columns @ (a, slope, rise) - r) ** 2))
    return Surface(Estimate(exponent, exponent - residual, exponent + residual, n), slope, a / slope, residual)


def _starts(log_n: Array) -> list[Array]:
    return [np.array([m, 0.0, e]) for m in np.quantile(log_n, [0.1, 0.5]) - 3 for e in (0.2, 0.6, 1.0)]


def _fit(log_n: Array, log_s: Array, r: Array, chance: float, start: Array) -> optimize.OptimizeResult:
    def curve(p: Array) -> Array:
        return special.expit(-np.exp(p[1]) * (log_n - p[0] - p[2] * log_s))

    def residuals(p: Array) -> Array:
        return chance + (1 - chance) * curve(p) - r

    def jacobian(p: Array) -> Array:
        s, k = curve(p), np.exp(p[1])
        inner = (1 - chance) * s * (1 - s) * k
        return np.stack([inner, -inner * (log_n - p[0] - p[2] * log_s), inner * log_s], axis=1)

    # The slope's bounds keep a step function's fit finite: recall falls from 0.99 to 0.01 within a fifth of an octave
    # or more, and within 180 octaves or less.
    bounds = ([-40, math.log(0.05), -5], [40, math.log(50), 5])
    return optimize.least_squares(residuals, np.clip(start, *bounds), jac=jacobian, bounds=bounds, method="dogbox")


def _array(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64).ravel()
    if not np.all(np.isfinite(array)):
        raise ConfigError("a recall surface needs finite values: leave a run out, and say so, where it gave none")
    return array
