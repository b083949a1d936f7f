"""Picking values out of the records' long table: one value per seed."""

from __future__ import annotations

import pandas as pd

from ripstop.config import ConfigError
from ripstop.statistics import Capacity, Estimate, fit_logistic


def pick(records: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """Rows of `metric` whose columns have the given values; none where a column does not exist."""
    rows = records[records["metric"] == metric]
    for column, value in where.items():
        if column not in rows:
            return rows.iloc[:0]
        rows = rows[rows[column] == value]
    return rows


def by_seed(records: pd.DataFrame, metric: str, **where: object) -> pd.Series:
    """Values indexed by seed. Rows that differ in a column that `where` does not fix are an error, not an average."""
    rows = pick(records, metric, **where)
    if rows["seed"].duplicated().any():
        runs = ", ".join(sorted(rows["run"].unique())[:3])
        raise ConfigError(f"{metric} where {where}: several values for one seed (runs {runs}); fix one more column")
    return rows.set_index("seed")["value"].sort_index()


def capacities(records: pd.DataFrame, chance: float, **where: object) -> dict[int, Capacity]:
    """Capacity of each seed's recall curve (own pairs), by seed."""
    rows = pick(records, "accuracy", control="own", **where)
    return {int(seed): _capacity(rows[rows["seed"] == seed], chance) for seed in sorted(rows["seed"].unique())}


def _capacity(curve: pd.DataFrame, chance: float) -> Capacity:
    curve = curve.sort_values("num_pairs")
    return fit_logistic(curve["num_pairs"], curve["value"], curve["n"], chance)


def chance_level(records: pd.DataFrame) -> float:
    """Accuracy of guessing, as the runs recorded it."""
    levels = pick(records, "chance")["value"].unique()
    if len(levels) != 1:
        raise ConfigError(f"the records hold {len(levels)} levels of chance; a study needs one, evaluate its runs again")
    return float(levels[0])


def run_count(records: pd.DataFrame) -> Estimate:
    """Number of runs behind the records."""
    n = records["run"].nunique()
    return Estimate(n, n, n, n, "runs")
