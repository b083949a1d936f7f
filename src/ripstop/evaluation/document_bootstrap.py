"""Intervals over documents: what is measured on the same questions is paired, and whole documents are resampled.

Questions about one document share whatever the wire kept of it, so that they are no independent draws. The interval is the
plain percentile one (Efron and Tibshirani 1993, chapter 13) of a statistic of sums: of the losses in nats and of the tokens
that they are over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ripstop.config import ConfigError
from ripstop.records import Measurement, Scalar

SEED = 12345
ENDS = ("value", "low", "high")
"""The slice `end` of the three records of an interval."""

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums of the columns, (..., C), to the statistic, (...)."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; n: documents behind it."""

    value: float
    low: float
    high: float
    n: int

    @property
    def is_known(self) -> bool:
        return bool(np.isfinite([self.value, self.low, self.high]).all())

    def measurements(self, metric: str, unit: str, slice_: Mapping[str, Scalar]) -> Iterator[Measurement]:
        """Its three records; none where it says nothing."""
        if self.is_known:
            for end in ENDS:
                yield Measurement(metric, getattr(self, end), unit, self.n, {**slice_, "end": end})


def interval(documents: Sequence[str], columns: Sequence[ArrayLike], statistic: Statistic, n_bootstrap: int) -> Interval:
    """`statistic` of the columns' sums, with its interval over documents.

    documents: of each question, the document that it asks about; columns: C sequences of a number for each question.
    """
    places = {document: i for i, document in enumerate(dict.fromkeys(documents))}
    if not places:
        raise ConfigError("an interval over documents needs a question; raise the number of test questions")
    columns_QC = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    sums_DC = np.zeros((len(places), len(columns)))
    np.add.at(sums_DC, [places[document] for document in documents], columns_QC)
    drawn_RD = np.random.default_rng(SEED).integers(len(places), size=(n_bootstrap, len(places)))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums_DC.sum(0)))
        resampled_R = statistic(sums_DC[drawn_RD].sum(1))
    if not np.isfinite(resampled_R).all():
        return Interval(value, np.nan, np.nan, len(places))
    low, high = np.quantile(resampled_R, [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value), len(places))


def loss_difference(
    documents: Sequence[str], tokens: ArrayLike, nats: ArrayLike, other: ArrayLike, n_bootstrap: int
) -> Interval:
    """Loss per token of `other` minus that of `nats`, in nats: how much better the latter is."""
    return interval(documents, [other, nats, tokens], lambda sums: (sums[..., 0] - sums[..., 1]) / sums[..., 2], n_bootstrap)


def gap_closed(
    documents: Sequence[str], nats: ArrayLike, floors: Sequence[ArrayLike], ceiling: ArrayLike, n_bootstrap: int
) -> Interval:
    """The part of the way from the best of `floors` to `ceiling` that `nats` has gone; unknown where there may be no way.

    The best floor is looked for in every resample: to have chosen it is part of the interval.
    """

    def share(sums: Floats) -> Floats:
        floor, end = sums[..., 2:].min(-1), sums[..., 1]
        return np.where(floor > end, (floor - sums[..., 0]) / (floor - end), np.nan)

    return interval(documents, [nats, ceiling, *floors], share, n_bootstrap)
