"""What the records of stored states say: what a number format costs, and the bits at which the cost reaches a level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.statistics import Capacity, Estimate, capacity_interval, difference_interval, mean_interval

LABELS = {
    "mamba2": "Mamba-2",
    "gated_delta": "Gated DeltaNet",
    "kda": "Kimi Delta Attention",
    "attention": "full attention",
    "mla": "latent attention",
    "sliding_window": "sliding window",
}
RECURRENT = ("mamba2", "gated_delta", "kda")
"""Whose state is rounded again at every token."""
CACHES = ("attention", "mla")
"""Whose state is rounded when it is written, and which see all of the past."""
EXACT = "fp32"
WHOLE = ("int8", "int6", "int5", "int4", "int3", "int2")
LADDER = {
    "nearest": (EXACT, "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", *WHOLE),
    "stochastic": ("int8", "int6", "int4", "int3"),
    "feedback": ("int8", "int6", "int4", "int3"),
}
"""Rounding -> the formats that are printed with it; bits are told by the whole numbers among them."""
ROUNDINGS = {"nearest": "to nearest", "stochastic": "stochastic", "feedback": "to nearest, error feedback"}
DROP = 0.05
"""Of recall: the level at which bits are told."""
ROOM = 0.5
"""Recall in float32 below which nothing is said of what a format takes from it."""


def recall(records: StudyRecords, architecture: str, length: int, format: str = EXACT, rounding: str = "nearest") -> pd.Series:
    """By seed; empty where the architecture was dropped."""
    where = {"architecture": architecture, "length": length, "format": format, "rounding": rounding}
    return records.by_seed("stored_accuracy", task="recall", **where)


@by_heart
def lost(records: StudyRecords, architecture: str, length: int, format: str, rounding: str = "nearest") -> pd.Series:
    """Recall in float32 minus that in a format, by seed."""
    return recall(records, architecture, length) - recall(records, architecture, length, format, rounding)


def present(records: StudyRecords, architectures: Sequence[str]) -> list[str]:
    return [name for name in architectures if not records.is_dropped("architecture", name)]


@by_heart
def mean_lost(
    records: StudyRecords, architectures: Sequence[str], length: int, format: str, rounding: str = "nearest"
) -> pd.Series:
    """The same, a mean over architectures; empty where all were dropped."""
    found = [lost(records, name, length, format, rounding) for name in present(records, architectures)]
    return pd.concat(found, axis=1).mean(axis=1) if found else pd.Series(dtype=float)


def has_room(records: StudyRecords, architectures: Sequence[str], length: int) -> bool:
    """Whether every one of them recalls enough in float32."""
    return all(recall(records, name, length).mean() >= ROOM for name in present(records, architectures))


@by_heart
def bits(records: StudyRecords, architectures: Sequence[str], length: int) -> Estimate:
    """Bits per element, scales counted, at which whole numbers, rounded to nearest, cost `DROP` of recall: between two formats
    on a straight line, for the mean over architectures; a bound where no format, or even the widest, costs that. Unknown
    without room."""
    names = present(records, architectures)
    if not names:
        return Estimate.missing("bits")
    curves = {width(records, names, format): mean_lost(records, names, length, format) for format in WHOLE}
    seeds = next(iter(curves.values())).index
    if not has_room(records, names, length):
        return Estimate.unknown(len(seeds), "bits")
    return capacity_interval([crossing({at: float(curve[seed]) for at, curve in curves.items()}) for seed in seeds], "bits")


def crossing(costs: Mapping[float, float], level: float = DROP) -> Capacity:
    """The bits at which a cost first reaches `level` on the way down from the most bits."""
    wide, *narrower = sorted(costs, reverse=True)
    if costs[wide] >= level:
        return Capacity(wide, "above")
    for narrow in narrower:
        if costs[narrow] >= level:
            return Capacity(wide + (narrow - wide) * (level - costs[wide]) / (costs[narrow] - costs[wide]))
        wide = narrow
    return Capacity(wide, "below")


@by_heart
def width(
    records: StudyRecords, architectures: Sequence[str], format: str, rounding: str = "nearest", task: str = "recall"
) -> float:
    """Bits per element, a mean over architectures; nan where there is none."""
    where = {"task": task, "format": format, "rounding": rounding}
    widths = [records.constant("state_bits_per_element", architecture=name, **where) for name in architectures]
    found = [value for value in widths if value is not None]
    return sum(found) / len(found) if found else math.nan


def width_of_all(records: StudyRecords, architectures: Sequence[str], format: str, rounding: str = "nearest") -> Estimate:
    """The same of those that are there, on MQAR."""
    value = width(records, present(records, architectures), format, rounding)
    return Estimate.missing("bits") if math.isnan(value) else Estimate.exact(value, 1, "bits")


def text_bits(
    records: StudyRecords, architecture: str, length: int, format: str = EXACT, rounding: str = "nearest"
) -> pd.Series:
    """Bits per byte by seed, of the text between the length before and this one."""
    where = {"architecture": architecture, "length": length, "format": format, "rounding": rounding}
    return records.by_seed("stored_bits_per_byte", task="text", **where)


@by_heart
def text_cost(records: StudyRecords, architecture: str, length: int, format: str, rounding: str = "nearest") -> pd.Series:
    """Bits per byte more than in float32, by seed."""
    return text_bits(records, architecture, length, format, rounding) - text_bits(records, architecture, length)


@by_heart
def mean_text_cost(
    records: StudyRecords, architectures: Sequence[str], length: int, format: str, rounding: str = "nearest"
) -> pd.Series:
    """The same, a mean over those that are language models; empty where there is none."""
    names = [name for name in present(records, architectures) if name in text_models(records)]
    found = [text_cost(records, name, length, format, rounding) for name in names]
    return pd.concat(found, axis=1).mean(axis=1) if found else pd.Series(dtype=float)


def text_models(records: StudyRecords) -> list[str]:
    """Architectures that are language models, too, in the order of `LABELS`."""
    found = records.only(task="text").values("architecture")
    return [name for name in LABELS if name in found]


def points(values: pd.Series) -> Estimate:
    """A mean over seeds of what may be a gain; no unit."""
    return mean_interval(values)


def difference(a: pd.Series, b: pd.Series) -> Estimate:
    """a minus b, seed by seed; no unit."""
    return difference_interval(a, b) if len(a) and len(b) else Estimate.missing()


def lengths(records: StudyRecords) -> tuple[int, int]:
    """The shortest and the longest, in rows of training."""
    found = records.values("length")
    return int(found[0]), int(found[-1])
