"""How an estimate was made is told by the functions that made it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ripstop.paper.methods import noted
from ripstop.paper.tables import Marked
from ripstop.recall_surface import fit_surface
from ripstop.statistics import Capacity, Estimate, capacity_interval, difference_interval, mean_interval

SEEDS = pd.Series([0.5, 0.6, 0.8])


def fitted() -> Estimate:
    pairs, sizes = (part.ravel() for part in np.meshgrid([2.0, 4.0, 8.0, 16.0], [1.0, 2.0, 4.0]))
    recall = 1 / (1 + np.exp(np.log2(pairs) - np.log2(sizes) - 1))
    return fit_surface(pairs, sizes, recall, sizes, 0.0, interval=False).exponent


MADE = {
    "mean_interval: Mean over seeds with its expanded percentile bootstrap interval": lambda: mean_interval(SEEDS),
    "difference_interval: Mean of a minus mean of b, one value per seed": lambda: difference_interval(SEEDS, SEEDS / 2),
    "capacity_interval: Geometric mean of the capacities": lambda: capacity_interval([Capacity(4.0), Capacity(8.0)]),
    "Estimate.exact: Of something that no seed moves": lambda: Estimate.exact(3.0),
    "Estimate.missing: Of something that the parameters of this scale dropped": Estimate.missing,
    "fit_surface: Least squares over all points of all runs": fitted,
}


@pytest.mark.parametrize("method", MADE)
def test_the_function_says_it(method: str) -> None:
    with noted() as methods:
        made = MADE[method]()
    assert methods.of(made).startswith(method)
    assert methods.of(Marked(made, "*")) == methods.of(made)


def test_of_combined_estimates_all_are_told() -> None:
    with noted() as methods:
        made = mean_interval(SEEDS).minus(Estimate.exact(0.1)).times(2.0)
    said = methods.of(made).split("; of: ")
    assert [text.partition(":")[0] for text in said] == ["Estimate.times", "Estimate.minus", "mean_interval", "Estimate.exact"]


def test_by_hand_the_printers_own_function_is_named() -> None:
    def rule_of_thumb() -> Estimate:
        """Half of what was seen."""
        return Estimate(0.5)

    with noted() as methods:
        made = rule_of_thumb()
    assert methods.of(made).endswith("rule_of_thumb: Half of what was seen.")


def test_what_is_no_estimate_is_as_recorded_and_nothing_stays() -> None:
    with pytest.raises(ValueError, match="before it begins"), noted() as methods:
        assert methods.of("text") == methods.of(3) == "as recorded"
        Estimate(1.0, 2.0, 1.0)
    assert methods.of(Estimate(1.0)) == "as recorded"
