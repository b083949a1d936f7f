"""What the records of needles say, arm by arm: answers, selections and effective lengths."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.statistics import Capacity, Estimate, capacity_interval, difference_interval, mean_interval

SPARSE = "nsa"
TAUGHT = "branch_dropout"
"""The way of teaching that stands for sparse attention beside other architectures; chosen before the runs."""
LABELS = {
    SPARSE: "sparse attention",
    "attention": "full attention",
    "sliding_window": "sliding window",
    "mamba2": "Mamba-2",
    "hybrid": "Mamba-2, then attention",
}
WAYS = {
    "none": "nothing",
    "branch_dropout": "branch dropout",
    "indexer": "indexer loss",
    "alternate": "full and sparse by turns",
    "score_weighted": "score-weighted blocks",
}
FAMILIES = {
    "single": "single",
    "multi_key": "several keys",
    "multi_value": "several values",
    "variable_chain": "two-hop chain",
}
THRESHOLD = 0.85
"""Accuracy that a length must reach, and every shorter one, to count: RULER (arXiv 2404.06654) takes 0.856."""
COLLAPSED = (0.02, 0.98)
"""A mean gate outside of it has collapsed, as in the objective."""


@dataclass(frozen=True)
class Arm:
    """teaching: None where nothing selects."""

    architecture: str
    teaching: str | None = None
    haystack: str = "tokens"

    @classmethod
    def of(cls, architecture: str, haystack: str = "tokens") -> Arm:
        """The one that stands for an architecture."""
        return cls(architecture, TAUGHT if architecture == SPARSE else None, haystack)

    @property
    def factors(self) -> dict[str, str]:
        taught = {} if self.teaching is None else {"teaching": self.teaching}
        return {"haystack": self.haystack, "architecture": self.architecture, **taught}

    @property
    def name(self) -> str:
        """Its value of the one factor that tells all arms apart."""
        return "_".join(self.factors.values())

    @property
    def label(self) -> str:
        way = "" if self.teaching is None else f", taught by {WAYS.get(self.teaching, self.teaching)}"
        return f"{LABELS.get(self.architecture, self.architecture)}{way}{' (prose)' if self.haystack == 'prose' else ''}"


def arms(records: StudyRecords) -> list[Arm]:
    """Every arm that there is: by haystack, architecture and teaching in the order of the paper, new ones last."""
    rows = records.labels[["architecture", "teaching", "haystack"]].drop_duplicates()
    found = [Arm(a, t if isinstance(t, str) else None, h) for a, t, h in rows.itertuples(index=False)]
    orders = ["tokens", "prose"], [*LABELS], [*WAYS]

    def order(arm: Arm) -> list[tuple[int, str]]:
        values = arm.haystack, arm.architecture, arm.teaching or ""
        return [(names.index(v) if v in names else len(names), v) for names, v in zip(orders, values, strict=True)]

    return sorted(found, key=order)


@by_heart
def lengths(records: StudyRecords, family: str = "single") -> list[float]:
    """Those that a family was tested at, the shortest first."""
    return sorted(records.pick("accuracy", family=family)["length"].unique().tolist())


@by_heart
def families(records: StudyRecords, arm: Arm) -> set[str]:
    """Those that an arm was asked: in prose there may be fewer."""
    return set(records.pick("accuracy", **arm.factors)["family"].unique())


def short(length: float) -> str:
    return f"{length / 1024:g}k" if length >= 1024 else f"{length:g}"


@by_heart
def inside(records: StudyRecords, metric: str, **where: object) -> pd.Series:
    """Of the single needle, by seed: the mean over the depths between the first and the last and what `where` leaves free.

    At the first and the last depth a needle lies in blocks that sparse attention reads in any case, and in windows.
    """
    return _inside(records, metric, **where).groupby("seed")["value"].mean()


def n_questions(records: StudyRecords, arm: Arm, length: float) -> Estimate:
    """Of the single needle at the depths between the first and the last, how many each seed answers, at the least."""
    asked = _inside(records, "accuracy", length=length, control="own", **arm.factors).groupby("seed")["n"].sum()
    return Estimate.exact(float(asked.min()), len(asked)) if len(asked) else Estimate.missing()


def _inside(records: StudyRecords, metric: str, **where: object) -> pd.DataFrame:
    rows = records.pick(f"{metric}_at_depth", family="single", **where)
    return rows[(rows["depth"] > 0) & (rows["depth"] < 1)]


def found(records: StudyRecords, arm: Arm, length: float, control: str = "own") -> pd.Series:
    """Answers that are right, by seed."""
    return inside(records, "accuracy", length=length, control=control, **arm.factors)


def fraction(values: pd.Series) -> Estimate:
    """Mean over seeds."""
    return mean_interval(values, "fraction")


def worst(values: pd.Series) -> Estimate:
    """The lowest of the seeds' values."""
    return Estimate.exact(float(values.min()), len(values), "fraction") if len(values) else Estimate.missing("fraction")


def difference(a: pd.Series, b: pd.Series) -> Estimate:
    """a minus b, seed by seed."""
    return difference_interval(a, b, "fraction") if len(a) and len(b) else Estimate.missing("fraction")


@by_heart
def effective(records: StudyRecords, family: str, arm: Arm) -> Estimate:
    """The longest length up to which accuracy reaches `THRESHOLD`, a geometric mean over seeds."""
    rows = records.pick("accuracy", family=family, control="own", **arm.factors)
    return capacity_interval([_reach(curve.set_index("length")["value"]) for _, curve in rows.groupby("seed")], "tokens")


def _reach(accuracy: pd.Series) -> Capacity:
    """Of one seed, by length."""
    accuracy = accuracy.sort_index()
    failed = accuracy.index[accuracy < THRESHOLD]
    reached = accuracy.index[accuracy.index < failed[0]] if len(failed) else accuracy.index
    if not len(reached):
        return Capacity(float(accuracy.index[0]), "below")
    return Capacity(float(reached[-1]), "no" if len(failed) else "above")


def constant(records: StudyRecords, metric: str, unit: str, **where: object) -> Estimate:
    """Of what no seed moves."""
    value = records.constant(metric, **where)
    return Estimate.missing(unit) if value is None else Estimate.exact(value, records.n_seeds, unit)


def n_collapsed(records: StudyRecords) -> Estimate:
    """Mean gates that are out of bounds, of all layers, seeds and ways of teaching."""
    gates = records.pick("gate", haystack="tokens", architecture=SPARSE)
    if gates.empty:
        return Estimate.missing("count")
    low, high = COLLAPSED
    return Estimate.exact(int(((gates["value"] < low) | (gates["value"] > high)).sum()), gates["seed"].nunique(), "count")
