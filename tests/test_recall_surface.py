"""The joint model of recall: known exponents come back, curves that never cross half count, and intervals cover."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from ripstop import recall_surface
from ripstop.config import ConfigError
from ripstop.recall_surface import Surface, fit_surface

PAIRS = (2, 4, 8, 16, 32, 64)
Recall = Callable[[float, float], float]


def curve(exponent: float, midpoint: float, slope: float, chance: float = 0.0) -> Recall:
    """Recall of n pairs with a state of a size, half way at 2^midpoint size^exponent."""
    return lambda n, size: (
        chance + (1 - chance) / (1 + 2.0 ** (slope / math.log(2) * math.log2(n / 2**midpoint / size**exponent)))
    )


def points(recall: Recall, sizes: tuple[float, ...], seeds: int = 1, pairs: tuple[int, ...] = PAIRS) -> list[NDArray]:
    """pairs, size, recall and run of every point."""
    rows = [(n, size, recall(n, size), f"{size:g}-{seed}") for size in sizes for seed in range(seeds) for n in pairs]
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer resamples than the paper's."""
    monkeypatch.setattr(recall_surface, "RESAMPLES", 60)


def test_the_midpoint_is_where_recall_is_half_way() -> None:
    assert curve(0.5, 1.0, 3.0, 0.2)(8, 16) == pytest.approx(0.6)  # 2^1 16^0.5 = 8


@pytest.mark.parametrize(
    ("exponent", "midpoint", "slope", "chance", "sizes"),
    [
        (0.75, 1.0, 1.2, 0.0, (2, 8, 32)),
        (1.0, -2.0, 0.9, 1 / 64, (16, 64, 256)),
        (0.0, 3.0, 2.0, 0.2, (4, 64)),
        (-0.4, 5.0, 1.0, 0.1, (4, 16, 64)),
        (0.5, 0.0, 6.0, 0.0, (4, 16, 64, 256, 1024)),
    ],
)
def test_known_parameters_come_back(exponent: float, midpoint: float, slope: float, chance: float, sizes: tuple) -> None:
    found = fit_surface(*points(curve(exponent, midpoint, slope, chance), sizes), chance)
    assert found.exponent.value == pytest.approx(exponent, abs=1e-5)
    assert (found.midpoint, found.slope) == (pytest.approx(midpoint, abs=1e-4), pytest.approx(slope, rel=1e-4))
    assert found.residual == pytest.approx(0, abs=1e-6)
    assert found.capacity(64) == pytest.approx(2**midpoint * 64**exponent, rel=1e-4)
    assert (found.exponent.n, found.exponent.unit) == (len(sizes), "")


def test_curves_that_never_cross_half_count() -> None:
    """Half way lies at 1, 16 and 256 pairs for the three sizes, of 2 to 64 tested: the outer two never cross it."""
    recall = curve(1.0, 0.0, 0.8, 0.05)
    n, size, r, run = points(recall, (1, 16, 256))
    half = 1.05 / 2
    assert (r[size == 1] < half).all() and (r[size == 256] > half).all()
    found = fit_surface(n, size, r, run, 0.05)
    assert found.exponent.value == pytest.approx(1.0, abs=1e-5)
    below = fit_surface(n[size < 256], size[size < 256], r[size < 256], run[size < 256], 0.05)
    above = fit_surface(n[size > 1], size[size > 1], r[size > 1], run[size > 1], 0.05)
    assert below.exponent.value == pytest.approx(1.0, abs=1e-4)
    assert above.exponent.value == pytest.approx(1.0, abs=1e-4)


def test_four_points_by_hand() -> None:
    """Recall 4/5 and 1/2 at 2 and 4 pairs with size 1, 1/2 and 1/5 at 8 and 16 pairs with size 4.

    Half way lies at 4 pairs, then at 8: e = log2(8 / 4) / log2(4) = 1/2 and m = 2; odds of 4 to 1 an octave: k = ln 4.
    """
    found = fit_surface([2, 4, 8, 16], [1, 1, 4, 4], [0.8, 0.5, 0.5, 0.2], ["a", "a", "b", "b"], 0.0)
    assert found.exponent.value == pytest.approx(0.5, abs=1e-5)
    assert (found.midpoint, found.slope) == (pytest.approx(2, abs=1e-5), pytest.approx(math.log(4), rel=1e-5))
    assert math.isnan(found.exponent.low) and found.exponent.n == 2  # one run a size: no interval
    # half of what lies above chance: 0.2 + 0.8 * (4/5, 1/2, 1/2, 1/5)
    above = fit_surface([2, 4, 8, 16], [1, 1, 4, 4], [0.84, 0.6, 0.6, 0.36], ["a", "a", "b", "b"], 0.2)
    assert above.exponent.value == pytest.approx(0.5, abs=1e-5) and above.midpoint == pytest.approx(2, abs=1e-5)
    assert above.slope == pytest.approx(math.log(4), rel=1e-5)


def test_the_residual_is_a_root_of_a_mean_of_squares() -> None:
    """Two runs of one size 0.1 above and below the curve: the fit goes between them."""
    n, size, r, run = points(curve(0.5, 1.0, 1.5), (4, 16), 2)
    off = np.where(np.char.endswith(run, "-0"), 0.02, -0.02)
    assert fit_surface(n, size, r + off, run, 0.0, interval=False).residual == pytest.approx(0.02, abs=1e-3)


def noisy(seed: int, seeds: int = 4) -> list[NDArray]:
    """Runs whose capacity is off by a fifth of an octave, each as a whole: a seed's points go together."""
    random = np.random.default_rng(seed)
    n, size, _, run = points(curve(0.7, 1.0, 1.0), (4, 16, 64), seeds)
    shift = dict(zip(np.unique(run), random.normal(size=3 * seeds) * 0.2, strict=True))
    r = [1 / (1 + math.exp(math.log2(a) - 1 - 0.7 * math.log2(b) - shift[c])) for a, b, c in zip(n, size, run, strict=True)]
    return [n, size, np.array(r), run]


def test_the_interval_covers_and_has_the_right_width(few: None) -> None:
    """The exponent is a slope over log2 sizes 2, 4, 6: its standard error is 0.2 / sqrt(4 (4 + 0 + 4)) = 0.035."""
    found = [fit_surface(*noisy(seed), 0.0).exponent for seed in range(20)]
    assert sum(e.low <= 0.7 <= e.high for e in found) >= 16  # 95 % of 20, less three standard errors
    assert all(e.low < e.value < e.high for e in found)
    assert np.mean([e.high - e.low for e in found]) == pytest.approx(4 * 0.035, abs=0.05)


def test_runs_are_drawn_within_their_size_and_whole(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    n, size, r, run = noisy(0, 2)
    drawn: list[tuple[list[float], list[float]]] = []
    fit = recall_surface._fit

    def seen(log_n: NDArray, log_s: NDArray, *rest: NDArray) -> object:
        drawn.append((log_n.tolist(), log_s.tolist()))
        return fit(log_n, log_s, *rest)

    monkeypatch.setattr(recall_surface, "_fit", seen)
    fit_surface(n, size, r, run, 0.0)
    assert len(drawn) >= 60
    for log_n, log_s in drawn:
        assert sorted(log_s) == sorted(np.log2(size))  # every size as often as it was run
        assert sorted(log_n) == sorted(np.log2(n))  # and whole curves


def test_equal_seeds_leave_no_doubt(few: None) -> None:
    found = fit_surface(*points(curve(0.6, 1.0, 1.0), (4, 16, 64), 2), 0.0)
    assert (found.exponent.low, found.exponent.high) == (pytest.approx(0.6, abs=1e-4), pytest.approx(0.6, abs=1e-4))
    assert found.exponent.n == 6


def test_two_seeds_give_the_range_of_what_can_be_drawn(few: None) -> None:
    """With two seeds the expanded interval asks for everything: its ends are those of all 27 mixtures."""
    n, size, r, run = noisy(1, 2)
    found = fit_surface(n, size, r, run, 0.0).exponent
    pairs = ((0, 0), (0, 1), (1, 1))
    mixtures = [dict(zip((4, 16, 64), drawn, strict=True)) for drawn in itertools.product(pairs, repeat=3)]
    keep = [
        np.concatenate([np.flatnonzero(run == f"{size}-{seed}") for size, two in drawn.items() for seed in two])
        for drawn in mixtures
    ]
    all_of_them = [fit_surface(n[at], size[at], r[at], run[at], 0.0, interval=False).exponent.value for at in keep]
    assert found.low == pytest.approx(min(all_of_them), abs=2e-3)
    assert found.high == pytest.approx(max(all_of_them), abs=2e-3)


def test_the_order_of_the_rows_says_nothing(few: None) -> None:
    columns = noisy(2, 3)
    first = fit_surface(*columns, 0.0)
    order = np.random.default_rng(1).permutation(len(columns[0]))
    other = fit_surface(*(column[order] for column in columns), 0.0)
    for name in ("value", "low", "high"):
        assert getattr(other.exponent, name) == pytest.approx(getattr(first.exponent, name), abs=1e-5)
    assert fit_surface(*columns, 0.0) == first, "the same values give the same interval"


def test_a_unit_of_size_moves_the_midpoint_alone(few: None) -> None:
    n, size, r, run = noisy(3, 3)
    small, large = fit_surface(n, size, r, run, 0.0), fit_surface(n, size * 64.0, r, run, 0.0)
    assert large.exponent.value == pytest.approx(small.exponent.value, abs=1e-5)
    assert large.exponent.low == pytest.approx(small.exponent.low, abs=1e-4)
    assert large.midpoint == pytest.approx(small.midpoint - 6 * small.exponent.value, abs=1e-3)
    assert large.capacity(64 * 16) == pytest.approx(small.capacity(16), rel=1e-3)


def unknown(found: Surface, n: int) -> bool:
    ends = (found.exponent.low, found.exponent.high, found.exponent.n)
    numbers = (found.exponent.value, found.slope, found.midpoint, found.residual, found.capacity(4))
    return ends == (-math.inf, math.inf, n) and all(map(math.isnan, numbers))


def test_where_nothing_bends_or_nothing_varies_the_exponent_is_unknown() -> None:
    assert unknown(fit_surface(*points(curve(0.5, 1.0, 1.0), (16,), 3), 0.0), 3)
    assert unknown(fit_surface(*points(lambda n, size: 0.9 + n / 1000, (4, 16)), 0.0), 2)
    assert unknown(fit_surface(*points(lambda n, size: 0.1 + n / 1000, (4, 16)), 0.0), 2)
    assert unknown(fit_surface(*points(lambda n, size: 0.55, (4, 16)), 0.2), 2)  # half way is 0.6
    assert not unknown(fit_surface(*points(lambda n, size: 0.65 - n / 1000, (4, 16)), 0.2, False), 2)
    nothing = fit_surface([], [], [], [], 0.0)
    assert nothing.exponent.n == 0 and math.isnan(nothing.exponent.low)


@pytest.mark.parametrize(
    ("columns", "chance", "told"),
    [
        (([2, 4], [1, 2], [0.5], ["a", "b"]), 0.0, "needs one of each, not 2, 2, 1 and 2"),
        (([2, 4], [1, 2], [0.5, math.nan], ["a", "b"]), 0.0, "needs finite values"),
        (([0, 4], [1, 2], [0.9, 0.1], ["a", "b"]), 0.0, "needs pairs and sizes above 0"),
        (([2, 4], [-1, 2], [0.9, 0.1], ["a", "b"]), 0.0, "needs pairs and sizes above 0"),
        (([2, 4], [1, 2], [0.9, 0.1], ["a", "b"]), 1.0, r"a chance in \[0, 1\)"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(columns: tuple, chance: float, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fit_surface(*columns, chance)
