"""Picking values out of a study's records, for its printer. What is named and not there is an error, never a gap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from ripstop.config import ConfigError, nearest
from ripstop.metrics import METRICS
from ripstop.paper.by_heart import by_heart
from ripstop.statistics import Capacity, Estimate, by_common_seed, capacity_interval, fit_logistic, mean_interval

PART = "part"


@dataclass(frozen=True)
class StudyRecords:
    """The records of one study at one scale.

    labels: the table, long form, a row a value; factors and slices are columns. It is asked what there is a record of.
    table: the same, asked what was measured.
    dropped: what the parameters of this scale dropped: `("architecture", "attention")` an arm, `("part", "comet")` a part
        of the evaluation. Asked for, it gives no values, which print as "not measured". Nothing else may be absent.
    parts: metric -> the part that measures it, of metrics that a scale can do without.
    whole: the study's full table, where `labels` is a choice from it.
    factors: the columns that tell arms apart.
    """

    study: str
    labels: pd.DataFrame
    dropped: frozenset[tuple[str, str]] = frozenset()
    parts: Mapping[str, str] = field(default_factory=dict)
    whole: pd.DataFrame | None = None
    factors: frozenset[str] = frozenset()

    @property
    def table(self) -> pd.DataFrame:
        return self._shown(self.labels)

    @by_heart
    def only(self, **where: object) -> StudyRecords:
        """Those with the given factors; the rest still counts as there."""
        return replace(self, labels=self.labels[self._where(where)], whole=self._whole)

    def require(self, named: Mapping[str, Iterable[object]]) -> None:
        """`ConfigError` where a value of a factor (factor -> values) is neither there nor dropped."""
        for column, values in named.items():
            for value in values:
                self._known(column, value)

    @by_heart
    def values(self, column: str) -> list:
        """What a factor or slice has, sorted."""
        self._column(column)
        return sorted(self.labels[column].dropna().unique().tolist())

    @by_heart
    def family(self, column: str, prefix: str) -> list[str]:
        """Arms whose name is `prefix` and a rest. None at all is an error where the parameters dropped none."""
        found = [str(value) for value in self.values(column) if str(value).startswith(prefix)]
        if not found and not any(c == column and value.startswith(prefix) for c, value in self.dropped):
            raise self._absent(column, f"{prefix}...")
        return found

    def is_dropped(self, column: str, value: object) -> bool:
        return (column, _text(value)) in self.dropped

    @by_heart
    def factor(self, name: str, **where: object) -> float | None:
        """The one value that a factor has there; None where it was dropped."""
        self._column(name)
        return self._one(name, self.labels.loc[self._where(where), name].dropna().unique().tolist(), where)

    @by_heart
    def constant(self, metric: str, **where: object) -> float | None:
        """The one value of a metric that no seed moves, such as bytes; None where it was dropped."""
        return self._one(metric, self.pick(metric, **where)["value"].unique().tolist(), where)

    @by_heart
    def pick(self, metric: str, **where: object) -> pd.DataFrame:
        """Rows of `metric` whose columns have the given values."""
        if not self._is_there("metric", metric):
            if metric in self.parts and self.is_dropped(PART, self.parts[metric]):
                return self.labels.iloc[:0]
            raise self._absent("metric", metric)
        rows = self._rows(self._places("metric", metric) & self._where(where))
        if rows.empty and not any(self.is_dropped(*item) for item in where.items()):
            raise ConfigError(f"{self.study}: no record measures {metric} where {_words(where)}; evaluate its runs again")
        return rows

    @by_heart
    def pick_any(self, metric: str, **where: object) -> pd.DataFrame:
        """Rows of `metric` whose columns have the given values, none where there are none: for what may not have been."""
        places = self._places("metric", metric)
        for column, value in where.items():
            places = places & (self._places(column, value) if column in self.labels else False)
        return self._rows(places)

    @by_heart
    def by_seed(self, metric: str, **where: object) -> pd.Series:
        """Values indexed by seed. Rows that differ in a column that `where` does not fix are an error, not an average."""
        rows = self.pick(metric, **where)
        if rows["seed"].duplicated().any():
            runs = ", ".join(sorted(rows["run"].unique())[:3])
            several = f"{metric} where {_words(where)} has several values for one seed (runs {runs})"
            raise ConfigError(f"{self.study}: {several}; fix one more column")
        return rows["value"].set_axis(pd.Index(rows["seed"])).sort_index()

    @by_heart
    def mean_by_seed(self, metric: str, **where: object) -> pd.Series:
        """Mean of each seed over everything that `where` does not fix, which has to be the same for every seed."""
        rows = self.pick(metric, **where)
        counts = rows.groupby("seed").size()
        if counts.nunique() > 1:
            said = ", ".join(f"{n} of seed {seed}" for seed, n in counts.items())
            raise ConfigError(f"{self.study}: {metric} where {_words(where)}: {said}; evaluate the missing runs")
        return rows.groupby("seed")["value"].mean()

    @by_heart
    def mean(self, metric: str, **where: object) -> Estimate:
        """Mean over seeds, with the metric's own unit."""
        return mean_interval(self.by_seed(metric, **where), self.unit(metric))

    @by_heart
    def unit(self, metric: str) -> str:
        units = self._whole.loc[self._whole["metric"] == metric, "unit"].unique().tolist()
        if len(units) > 1:
            raise ConfigError(f"{self.study}: {metric} is measured in {' and in '.join(units)}; evaluate its runs again")
        return units[0] if units else METRICS.get(metric, "")

    @property
    def chance(self) -> float:
        """Accuracy of guessing, as the runs recorded it."""
        level = self.constant("chance")
        assert level is not None
        return level

    @by_heart
    def capacities(self, **where: object) -> dict[int, Capacity]:
        """Capacity of each seed's recall curve (own pairs), by seed."""
        rows, chance = self.pick("accuracy", control="own", **where), self.chance
        if rows.empty:
            return {}
        seeds, points = rows["seed"].to_numpy(), rows[["num_pairs", "value", "n"]].to_numpy(float)
        found = {}
        for seed in np.unique(seeds).tolist():
            curve = points[seeds == seed]
            if len(np.unique(curve[:, 0])) < len(curve):
                raise ConfigError(f"{self.study}: two recall curves of one seed where {_words(where)}; fix one more column")
            pairs, recall, n = curve[np.argsort(curve[:, 0])].T
            found[seed] = fit_logistic(pairs, recall, n, chance)
        return found

    @by_heart
    def capacity(self, **where: object) -> Estimate:
        """Geometric mean of the seeds' capacities, in pairs."""
        return capacity_interval(list(self.capacities(**where).values()))

    @property
    def n_runs(self) -> Estimate:
        """Number of runs behind the records."""
        n = self._whole["run"].nunique()
        return Estimate.exact(n, n, "runs")

    @property
    def n_seeds(self) -> int:
        """Number of seeds behind the rows at hand."""
        return int(self.labels["seed"].nunique())

    @property
    def _whole(self) -> pd.DataFrame:
        return self.labels if self.whole is None else self.whole

    def _where(self, where: Mapping[str, object]) -> np.ndarray:
        """Which rows have the given values."""
        places = np.ones(len(self.labels), bool)
        for column, value in where.items():
            self._known(column, value)
            places &= self._places(column, value)
        return places

    def _places(self, column: str, value: object) -> np.ndarray:
        """Which rows have the value: compared once, since a printer asks for the same few again and again."""
        if (column, value) not in self._found:
            self._found[column, value] = (self.labels[column] == value).to_numpy(bool)
        return self._found[column, value]

    def _rows(self, places: np.ndarray) -> pd.DataFrame:
        """The rows at these places, chosen once for the same reason."""
        key = places.tobytes()
        if key not in self._chosen:
            self._chosen[key] = self.labels[places]
        return self._shown(self._chosen[key].copy(deep=False))

    def _shown(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with their values."""
        return rows

    def _is_there(self, column: str, value: object) -> bool:
        """Whether any record of the study has the value."""
        if self.whole is None:
            return bool(self._places(column, value).any())
        return bool((self.whole[column] == value).any())

    @cached_property
    def _found(self) -> dict[tuple[str, object], np.ndarray]:
        return {}

    @cached_property
    def _chosen(self) -> dict[bytes, pd.DataFrame]:
        return {}

    def _one(self, name: str, values: list, where: Mapping[str, object]) -> float | None:
        if len(values) == 1:
            return values[0]
        if not values and (where and any(self.is_dropped(*item) for item in where.items()) or name in self.parts):
            return None
        said = ", ".join(map(_text, values)) or "none"
        raise ConfigError(f"{self.study}: {name} where {_words(where)} needs one value, not {said}; evaluate its runs again")

    def _known(self, column: str, value: object) -> None:
        self._column(column)
        there = self._is_there(column, value)
        if there and self.is_dropped(column, value):
            arm = f"{column}={_text(value)}"
            raise ConfigError(f"{self.study}: {arm} is said to be dropped, but has records; collect the study's records again")
        if not there and not self.is_dropped(column, value):
            raise self._absent(column, value)

    def _column(self, column: str) -> None:
        if column not in self._whole:
            near = nearest(column, [str(name) for name in self._whole])
            raise ConfigError(f"{self.study}: no record has a factor or slice {column!r}{near}")

    def _absent(self, column: str, value: object) -> ConfigError:
        present = [_text(v) for v in self._whole[column].dropna().unique()]
        part = self.parts.get(str(value))
        drop = f"{PART}={part}" if column == "metric" and part else f"{column}={_text(value)}"
        remedy = (
            f"; if the parameters of this scale dropped it, `render` takes --dropped {drop}"
            if part or column != "metric"
            else ""
        )
        named = f"{self.study}: what prints it names {column} {_text(value)!r}, which no record has"
        return ConfigError(f"{named}{nearest(_text(value), sorted(present))}{remedy}")


def worst_minus_best(values: Iterable[pd.Series]) -> pd.Series:
    """Largest minus smallest of several arms, seed by seed."""
    table = by_common_seed(list(values))
    return table.max(axis=1) - table.min(axis=1)


def mean_of(values: Iterable[pd.Series]) -> pd.Series:
    """Mean over several arms, seed by seed."""
    return by_common_seed(list(values)).mean(axis=1)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(where: Mapping[str, object]) -> str:
    return ", ".join(f"{column} is {_text(value)}" for column, value in where.items()) or "nothing is fixed"
