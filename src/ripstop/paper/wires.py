"""What the records of wires say: losses and gains arm by arm, with intervals over documents, and bytes of contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ripstop.config import ConfigError
from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.statistics import Estimate

MAIN = "main"
"""The factor `source` of what is trained on the study's own data."""
FIRST, SECOND, BOTH = "first", "second", "both"
"""The factor `readers` of a run, and the slice `reader` of what was asked of one of its frozen models."""
HEADLINE = {"pointer": "pointer", "mean_pool": "mean pooling"}
LABELS = {
    **HEADLINE,
    "feature_resampler": "resampler of features",
    "byte_resampler": "resampler of bytes",
    "constant": "learned constant",
}
NARROW = "pointer_narrow"
"""The pointer with so few numbers a vector that its wire takes fewer bytes than a text."""
TEXT = "text"
"""The factor `compressor` of the run without a wire."""
FORMATS = ("fp16", "int8", "int6", "int4")
TEXTS = {
    "closed": "closed book",
    "cut_tokens": "first M tokens of the text",
    "text": "full text",
}
CONTROLS = {
    "own": "own wire",
    "wrong": "another document's wire",
    "shuffled": "wires shuffled in the batch",
    "zero": "wire of zeros",
    "random": "random wire of equal norm",
}
READERS = (FIRST, SECOND)
CODINGS = ("utf8", "gzip", "zstd", "arithmetic")
SMALLEST: Literal["int4"] = "int4"
"""The format that is compared with text of as many bytes."""


@dataclass(frozen=True)
class Asked:
    """An arm, and the frozen model of it that was asked."""

    compressor: str
    n_vectors: int
    readers: str = FIRST
    source: str = MAIN

    @property
    def factors(self) -> dict[str, object]:
        named = {"source": self.source, "compressor": self.compressor, "n_vectors": self.n_vectors}
        return {**named, "readers": self.readers}

    def by(self, reader: str) -> dict[str, object]:
        return {**self.factors, "reader": reader}


def headline(records: StudyRecords) -> int:
    """M of the arms with every seed."""
    found = records.factor("n_vectors", size="headline")
    assert found is not None
    return int(found)


@by_heart
def loss(records: StudyRecords, arm: Asked, prompt: str = "own", reader: str = FIRST, **where: object) -> Estimate:
    """Loss per token of the gold answer."""
    return score(records, "answer_nll", arm, prompt, reader, **where)


@by_heart
def score(
    records: StudyRecords, metric: str, arm: Asked, prompt: str = "own", reader: str = FIRST, **where: object
) -> Estimate:
    """Mean over seeds of a measure over all questions, or those of `questions`, with a wire as computed, or in `format`."""
    where = {"questions": "all", "format": "none", **where}
    return records.mean(metric, prompt=prompt, **arm.by(reader), **where)


@by_heart
def gain(
    records: StudyRecords, arm: Asked, over: str, reader: str = FIRST, prompt: str = "own", format: str = "none",
    questions: str = "all",
) -> Estimate:  # fmt: skip
    """How much lower the loss per token is than that of what it is compared with, in nats."""
    where = {**arm.by(reader), "over": over, "prompt": prompt, "format": format, "questions": questions}
    return over_documents(records, "loss_gain", "nats", **where)


@by_heart
def gap(records: StudyRecords, arm: Asked, to: str, reader: str = FIRST) -> Estimate:
    """Part of the way from the best floor; unknown where in some resample of a seed there was no way."""
    where = {**arm.by(reader), "to": to}
    at = {"over": "zero", "prompt": "own", "format": "none", "questions": "all", "end": "value"}
    n = len(records.by_seed("loss_gain", **at, **arm.by(reader)))  # of the same part
    if len(records.pick_any("gap_closed", end="value", **where)) < n:
        return Estimate.unknown(n)
    return over_documents(records, "gap_closed", "", **where)


@by_heart
def over_documents(records: StudyRecords, metric: str, unit: str, **where: object) -> Estimate:
    """Mean over seeds; the interval reaches from the lowest to the highest end of the seeds' own, each over documents.

    So what it says holds for every seed by itself; it does not shrink with their number.
    """
    value, low, high = (records.by_seed(metric, end=end, **where) for end in ("value", "low", "high"))
    if value.empty:
        return Estimate.missing(unit)
    return Estimate(float(value.mean()), float(low.min()), float(high.max()), len(value), unit)


def largest(records: StudyRecords, metric: str, unit: str, **where: object) -> Estimate:
    """Of what is a bound, and no sample of anything: the largest of the seeds, as it is."""
    values = records.by_seed(metric, **where)
    return Estimate.missing(unit) if values.empty else Estimate.exact(float(values.max()), len(values), unit)


@by_heart
def compared(records: StudyRecords, arm: Asked) -> dict[str, Estimate]:
    """What a headline arm gains over everything, and the parts of the gaps that it closes."""
    return {
        **{f"over_{over}": gain(records, arm, over) for over in ("zero", "random", "constant", "closed", "text")},
        "over_cut": gain(records, arm, "cut_tokens"),
        "over_cut_outside": gain(records, arm, "cut_tokens", questions="outside"),
        **in_bytes(records, arm),
        "beside_gains": gain(records, arm, "text", prompt="beside"),
        **{f"closes_to_{to}": gap(records, arm, to) for to in ("text", "ceiling")},
        "swap_followed": over_documents(records, "swap_followed", "fraction", **arm.by(FIRST)),
    }


def in_bytes(records: StudyRecords, arm: Asked) -> dict[str, Estimate]:
    """What a wire gains in the smallest format over the text of as many bytes, and what that format costs it."""
    return {
        "over_equal_bytes": gain(records, arm, "cut_bytes", format=SMALLEST),
        "int4_costs": gain(records, arm, SMALLEST),
    }


def n_over(records: StudyRecords, metric: str, **where: object) -> Estimate:
    """How many questions or documents a number is over."""
    rows = records.pick(metric, **where)
    return Estimate.missing("count") if rows.empty else Estimate.exact(float(rows["n"].min()), 1, "count")


def negated(estimate: Estimate) -> Estimate:
    """What a gain costs when it is looked at from the other side."""
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n, estimate.unit)


@by_heart
def bytes_each(records: StudyRecords, metric: str = "context_bytes", /, **where: object) -> Estimate:
    """Bytes of a context, a mean over documents."""
    rows = records.pick(metric, **where)
    if rows.empty:
        return Estimate.missing("bytes")
    each = (rows["value"] / rows["n"]).round(9).drop_duplicates()
    if len(each) > 1:
        raise ConfigError(f"{records.study}: {metric} where {where} has several values; fix one more column")
    return Estimate.exact(float(each.iloc[0]), int(rows["seed"].nunique()), "bytes")
