"""What the records of language models say: bits per byte by arm, steps to equal loss, and trainings that were unstable."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.statistics import Estimate, difference_interval, geometric_mean, mean_interval

BASE = "swa_mla"
"""The architecture that everything is compared with."""
LABELS = {
    BASE: "windows and latents",
    "sliding_window": "windows only",
    "mla": "latents only",
    "attention": "full attention",
    "mamba2_attention": "Mamba-2 and attention",
}
OPTIMIZERS = {"adamw": "AdamW", "lion": "Lion", "muon": "Muon"}
REFERENCE = "adamw"
"""The optimizer whose steps the others' are divided by."""
SPLIT = "test"
Where = Mapping[str, object]


def of(architecture: str) -> dict[str, object]:
    """Where the records of an architecture are."""
    return {"sweep": "architecture", "architecture": architecture}


@by_heart
def scored(records: StudyRecords, where: Where, metric: str = "bits_per_byte", **more: object) -> pd.Series:
    """Bits per byte by seed; empty where the arm was dropped."""
    return records.by_seed(metric, split=SPLIT, **where, **more)


def bits(values: pd.Series) -> Estimate:
    """Mean over seeds."""
    return mean_interval(values, "bits")


def minus(a: pd.Series, b: pd.Series) -> Estimate:
    """Bits per byte of a minus those of b, seed by seed."""
    return difference_interval(a, b, "bits") if len(a) and len(b) else Estimate.missing("bits")


def worst(values: pd.Series) -> Estimate:
    """The highest of the seeds' values."""
    return Estimate.exact(float(values.max()), len(values), "bits") if len(values) else Estimate.missing("bits")


def constant(records: StudyRecords, metric: str, unit: str, where: Where) -> Estimate:
    """Of what no seed moves."""
    value = records.constant(metric, **where)
    return Estimate.missing(unit) if value is None else Estimate.exact(value, 1, unit)


@by_heart
def ngram(records: StudyRecords) -> tuple[int, float]:
    """The order of the n-gram model that is the best on held-out text to choose by, and its bits per byte of the other."""
    tried = records.pick("ngram_bits_per_byte", split="valid").sort_values("order").set_index("order")["value"]
    order = min(map(int, tried.index), key=lambda order: float(tried[order]))
    value = records.constant("ngram_bits_per_byte", split=SPLIT, order=order)
    assert value is not None
    return order, value


@by_heart
def swept(records: StudyRecords, sweep: str) -> dict[object, dict[str, object]]:
    """Value -> where its records are, that of the base among them: numbers by size, cycles by their share of latents."""
    if records.is_dropped("sweep", sweep):
        return {}
    own = records.factor(sweep, **of(BASE))
    found: dict[object, dict[str, object]] = {
        value: {"sweep": sweep, sweep: value} for value in records.only(sweep=sweep).values(sweep)
    }
    found[own] = of(BASE)
    by = (lambda value: latent_share(records, found[value])) if sweep == "cycle" else (lambda value: value)
    return {value: found[value] for value in sorted(found, key=by)}


def latent_share(records: StudyRecords, where: Where) -> float:
    """Of the layers of an arm of the base or the sweep of cycles."""
    share = records.factor("latent_share", **where)
    assert share is not None
    return share


def at(records: StudyRecords, sweep: str, value: object, metric: str = "bits_per_byte") -> pd.Series:
    """Bits per byte by seed at one value of a sweep; empty where the sweep was dropped."""
    found = swept(records, sweep)
    return scored(records, found[value], metric) if value in found else pd.Series(dtype=float)


@by_heart
def losses(records: StudyRecords, optimizer: str) -> dict[int, pd.Series]:
    """Seed -> held-out loss by step."""
    if records.is_dropped("sweep", "optimizers"):
        return {}
    rows = records.pick("held_out_loss", sweep="optimizers", optimizer=optimizer)
    return {seed: rows[rows["seed"] == seed].set_index("step")["value"].sort_index() for seed in sorted(rows["seed"].unique())}


@by_heart
def steps_to_equal_loss(records: StudyRecords) -> dict[str, pd.Series]:
    """Optimizer -> steps by seed until the loss that all of them reach with this seed: the highest of their last ones.

    Between two validations on a straight line. Nobody falls short of such a level, so that no seed is left out.
    """
    curves = {name: losses(records, name) for name in OPTIMIZERS}
    present = {name: found for name, found in curves.items() if found}
    level = {seed: max(found[seed].iloc[-1] for found in present.values()) for seed in next(iter(present.values()), {})}
    return {
        name: pd.Series({seed: reached(curve, level[seed]) for seed, curve in found.items()}, dtype=float)
        for name, found in curves.items()
    }


def reached(curve: pd.Series, level: float) -> float:
    """The step at which a loss is first at `level` or below, which its last value is."""
    step = float(curve.index[curve <= level][0])
    earlier = curve[curve.index < step]
    if earlier.empty:
        return step
    before, above, below = float(earlier.index[-1]), float(earlier.iloc[-1]), float(curve.loc[step])
    return before + (step - before) * (above - level) / (above - below)


def over(steps: pd.Series, reference: pd.Series) -> Estimate:
    """Geometric mean over seeds of the one's steps over the other's."""
    return geometric_mean((steps / reference).sort_index().tolist()) if len(steps) and len(reference) else Estimate.missing()


def unstable(records: StudyRecords, sink: object, lr: object) -> pd.Series:
    """By seed 1 where a training with this sink and learning rate was unstable or diverged, else 0."""
    where = {"sweep": "stability", "sink": sink, "lr": lr}
    diverged = records.by_seed("diverged", **where)
    lost = records.pick_any("unstable", **where).set_index("seed")["value"]
    return diverged.add(lost, fill_value=0).clip(upper=1)


def difference(a: pd.Series, b: pd.Series) -> Estimate:
    """Share of trainings in a minus that in b, seed by seed."""
    return difference_interval(a, b, "fraction")


def rate(values: pd.Series) -> Estimate:
    """Of trainings, by seed."""
    return mean_interval(values, "fraction")
