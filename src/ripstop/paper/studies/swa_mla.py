"""swa_mla in the paper: what window, sink, cycle and latent rank cost in bits per byte, optimizers, stability, and samples."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import language_model_figures as drawn
from ripstop.paper import language_models as lm
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Paragraph, Table
from ripstop.statistics import Estimate, geometric_mean, mean_interval

SWEEPS = {
    "window": "window",
    "sink": "sink",
    "cycle": "cycle",
    "rank": "latent rank",
    "isolation": "isolation in training",
}
"""Factor of a sweep -> its name in the table."""
ARMS = {
    "sweep": ("architecture", *SWEEPS, "optimizers", "stability", "baseline"),
    "architecture": tuple(lm.LABELS),
    "optimizer": tuple(lm.OPTIMIZERS),
}
PARTS = {
    **dict.fromkeys(("held_out_loss", "chosen", "candidate_loss"), "curve"),
    **dict.fromkeys(("diverged", "unstable", "unigram_loss", "lowest_held_out_loss", "last_held_out_loss"), "stability"),
}
NUMBERS = (
    *(f"{what}_{name}" for what in ("bits", "past", "state_bytes") for name in lm.LABELS),
    "bits_ngram",
    "ngram_order",
    "worst_seed_minus_ngram",
    "attention_minus_ngram",
    "mla_minus_ngram",
    "parameter_spread",
    "past_position",
    "state_context",
    "attention_state_over_swa_mla",
    "latent_gains_past",
    "swa_mla_minus_attention",
    "swa_mla_minus_mla",
    "mla_minus_attention",
    "mamba2_minus_swa_mla",
    "attention_minus_window_past",
    "window",
    "window_doubled_gains",
    "window_halved_costs",
    "no_sink_costs_past",
    "sink_dropped_costs_past",
    "sink_dropped_within",
    "densest_cycle_gains",
    "densest_cycle_gains_past",
    "rank",
    "rank_halved_costs",
    "isolation_gains",
    *(f"loss_{name}" for name in lm.OPTIMIZERS),
    *(f"steps_{name}" for name in lm.OPTIMIZERS),
    *(f"steps_{name}_over_{lm.REFERENCE}" for name in lm.OPTIMIZERS if name != lm.REFERENCE),
    "unstable_no_sink",
    "unstable_sink",
    "sink_stabilises",
    "unstable_at_lowest_rate",
    "unstable_when_lost",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """bits_..., past_...: held-out bits per byte, of all text and at positions from `past_position` on; state_bytes_...: at
    `state_context` tokens. bits_ngram: of the order that is the best on the split to choose by. worst_seed_minus_ngram: of the
    base's worst seed, the positive control. parameter_spread: the most parameters of an architecture over the fewest, minus 1.

    ..._gains, ..._costs, ..._minus_...: bits per byte, seed by seed; _past: at those positions. no_sink: trained without one;
    sink_dropped: the same weights with the sinks masked out; _within: the most that it moves where the window holds everything,
    which has to be nothing. densest_cycle: the one with the most latent layers.

    steps_...: until the highest of the optimizers' last losses with the same seed. unstable_...: the share of trainings at the
    highest learning rate, sink_stabilises: without a sink minus with the base's; unstable_at_lowest_rate: with the base's.
    unstable_when_lost: nats per token that a training may lose on its own lowest held-out loss.
    """
    bits = {name: lm.scored(records, lm.of(name)) for name in lm.LABELS}
    past = {name: lm.scored(records, lm.of(name), "bits_per_byte_past") for name in lm.LABELS}
    states = {name: lm.constant(records, "state_bytes", "bytes", lm.of(name)) for name in lm.LABELS}
    order, ngram = lm.ngram(records)
    own = {name: records.factor(name, **lm.of(lm.BASE)) for name in ("window", "sink", "rank")}
    window, rank = (float(own[name] or 0) for name in ("window", "rank"))
    base = bits[lm.BASE]
    return {
        **{f"bits_{name}": lm.bits(values) for name, values in bits.items()},
        **{f"past_{name}": lm.bits(values) for name, values in past.items()},
        **{f"state_bytes_{name}": state for name, state in states.items()},
        "bits_ngram": Estimate.exact(ngram, 1, "bits"),
        "ngram_order": Estimate.exact(order, 1, "tokens"),
        "worst_seed_minus_ngram": lm.worst(base - ngram),
        **{f"{name}_minus_ngram": lm.bits(bits[name] - ngram) for name in ("attention", "mla")},
        "parameter_spread": _spread(records),
        "past_position": _only(records, "bits_per_byte_past", "position"),
        "state_context": _only(records, "state_bytes", "seq_len"),
        "attention_state_over_swa_mla": states["attention"].over(states[lm.BASE]),
        "latent_gains_past": lm.minus(past["sliding_window"], past[lm.BASE]),
        "swa_mla_minus_attention": lm.minus(base, bits["attention"]),
        "swa_mla_minus_mla": lm.minus(base, bits["mla"]),
        "mla_minus_attention": lm.minus(bits["mla"], bits["attention"]),
        "mamba2_minus_swa_mla": lm.minus(bits["mamba2_attention"], base),
        "attention_minus_window_past": lm.minus(past["attention"], past["sliding_window"]),
        "window": Estimate.exact(window, 1, "tokens"),
        "window_doubled_gains": lm.minus(base, lm.at(records, "window", 2 * window)),
        "window_halved_costs": lm.minus(lm.at(records, "window", window // 2), base),
        "no_sink_costs_past": lm.minus(lm.at(records, "sink", 0, "bits_per_byte_past"), past[lm.BASE]),
        "sink_dropped_costs_past": lm.minus(
            lm.scored(records, lm.of(lm.BASE), "bits_per_byte_without_sinks_past"), past[lm.BASE]
        ),
        "sink_dropped_within": _moved_within(records, window),
        **_densest(records, base, past[lm.BASE]),
        "rank": Estimate.exact(rank, 1, "elements"),
        "rank_halved_costs": lm.minus(lm.at(records, "rank", rank // 2), base),
        "isolation_gains": _isolation(records, base),
        **_optimizers(records),
        **_stability(records, own["sink"]),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Bits per byte by position; sweeps with their bytes of state; learning curves; unstable trainings."""
    return {
        "swa_mla": drawn.by_position(records),
        "swa_mla_sweeps": drawn.sweeps(records),
        "swa_mla_optimizers": drawn.learning_curves(records),
        "swa_mla_stability": drawn.stability(records),
    }


def tables(records: StudyRecords) -> dict[str, Table]:
    """Architectures; one change at a time; optimizers with what they chose; texts to read."""
    return {
        "swa_mla": _architectures(records),
        "swa_mla_sweeps": _changes(records),
        "swa_mla_optimizers": _tuned(records),
        "swa_mla_samples": _samples(records),
    }


def _architectures(records: StudyRecords) -> Table:
    rows: list[list[Cell]] = []
    order, ngram = lm.ngram(records)
    arms = {label: lm.of(name) for name, label in lm.LABELS.items() if not records.is_dropped("architecture", name)}
    if "size" in records.labels:
        arms |= {f"windows and latents, {size}": {"sweep": "size", "size": size} for size in records.values("size")}
    for label, where in arms.items():
        size, state = (records.constant(metric, **where) for metric in ("parameters", "state_bytes"))
        whole, past = (lm.scored(records, where, metric) for metric in ("bits_per_byte", "bits_per_byte_past"))
        counts = (None if value is None else int(value) for value in (size, state))
        rows.append([label, *counts, *map(lm.bits, (whole, whole - ngram, past))])
    context = int(_only(records, "state_bytes", "seq_len").value)
    position = int(_only(records, "bits_per_byte_past", "position").value)
    return Table(
        header=["architecture", "parameters", "state (bytes)", "bits per byte", "minus n-gram", "past the window"],
        rows=[*rows, [f"interpolated {order}-gram model", "", "", ngram, "", ""]],
        caption=f"Language models at equal parameters and tokens: bytes of state at {context} tokens, bits per byte of "
        "held-out documents, the same minus those of the n-gram model, and bits per byte of their text from the token at "
        f"position {position} on; mean over seeds with its 95 % interval.",
    )


def _changes(records: StudyRecords) -> Table:
    """What each value of a sweep costs against the base."""
    rows: list[list[Cell]] = []
    base = {metric: lm.scored(records, lm.of(lm.BASE), metric) for metric in ("bits_per_byte", "bits_per_byte_past")}
    for sweep, label in SWEEPS.items():
        for value, where in lm.swept(records, sweep).items():
            if where != lm.of(lm.BASE):
                found = {metric: lm.scored(records, where, metric) for metric in base}
                own = f"{value:g}" if isinstance(value, int | float) else str(value)
                rows.append([label, own, *(lm.minus(values, base[metric]) for metric, values in found.items())])
    own_values = ", ".join(
        f"{label} {value:g}" if isinstance(value, int | float) else f"{label} {value}"
        for sweep, label in SWEEPS.items()
        for value in [records.factor(sweep, **lm.of(lm.BASE))]
    )
    return Table(
        header=["changed", "to", "bits per byte more", "more past the window"],
        rows=rows,
        caption=f"One thing changed at a time in the cycle of windows and latents ({own_values}): held-out bits per byte minus "
        "those of the base, seed by seed, mean with its 95 % interval.",
    )


def _tuned(records: StudyRecords) -> Table:
    steps = lm.steps_to_equal_loss(records)
    rows: list[list[Cell]] = []
    for name, label in lm.OPTIMIZERS.items():
        if records.is_dropped("optimizer", name) or records.is_dropped("sweep", "optimizers"):
            continue
        lr = records.constant("chosen", setting="training.lr", sweep="optimizers", optimizer=name)
        ratio: Cell = "" if name == lm.REFERENCE else lm.over(steps[name], steps[lm.REFERENCE])
        rows.append([label, lr, _last_loss(records, name), _steps(steps[name]), ratio])
    return Table(
        header=["optimizer", "learning rate", "held-out loss", "steps to equal loss", "over AdamW's"],
        rows=rows,
        caption="Optimizers, each with as many learning rates to choose from, by the held-out loss of a training with a seed "
        "that no result has: the last held-out loss (nats per token), and the steps until the highest of the optimizers' last "
        "losses with the same seed; geometric mean of the steps, with 95 % intervals.",
    )


def _samples(records: StudyRecords) -> Table:
    found = records.pick_any("sample_bits_per_token", **lm.of(lm.BASE))
    first = found if found.empty else found[found["seed"] == found["seed"].min()].sort_values("sample")
    return Table(
        header=["held-out text", "continued", "went on", "bits per token"],
        rows=[
            [*(Paragraph(row[side]) for side in ("prompt", "continuation", "reference")), float(row["value"])]
            for _, row in first.iterrows()
        ],
        caption="Texts that the cycle of windows and latents, first seed, samples behind the beginnings of held-out documents "
        "at equal distances, picked by place alone; how the documents go on; and what the model needs for its own text.",
    )


def _spread(records: StudyRecords) -> Estimate:
    sizes = [records.constant("parameters", **lm.of(name)) for name in lm.LABELS]
    found = [size for size in sizes if size is not None]
    return Estimate.exact(max(found) / min(found) - 1, len(found), "fraction")


def _only(records: StudyRecords, metric: str, column: str) -> Estimate:
    """The one value of a slice of the base's records."""
    (value,) = records.pick(metric, **lm.of(lm.BASE))[column].unique().tolist()
    return Estimate.exact(value, 1, "tokens")


def _moved_within(records: StudyRecords, window: float) -> Estimate:
    """The most that masked sinks move bits per byte at positions whose window holds everything before them."""
    kept, dropped = (
        records.pick(metric, split=lm.SPLIT, **lm.of(lm.BASE)).set_index(["seed", "position"])["value"]
        for metric in ("bits_per_byte_at", "bits_per_byte_without_sinks_at")
    )
    moved = (dropped - kept).abs()
    return Estimate.exact(float(moved[moved.index.get_level_values("position") < window].max()), records.n_seeds, "bits")


def _densest(records: StudyRecords, base: pd.Series, past: pd.Series) -> dict[str, Estimate]:
    """Cycles are ordered by their share of latents."""
    cycles = list(lm.swept(records, "cycle").values())
    if not cycles:
        return dict.fromkeys(("densest_cycle_gains", "densest_cycle_gains_past"), Estimate.missing("bits"))
    return {
        "densest_cycle_gains": lm.minus(base, lm.scored(records, cycles[-1])),
        "densest_cycle_gains_past": lm.minus(past, lm.scored(records, cycles[-1], "bits_per_byte_past")),
    }


def _isolation(records: StudyRecords, base: pd.Series) -> Estimate:
    if records.is_dropped("sweep", "isolation"):
        return Estimate.missing("bits")
    return lm.minus(lm.at(records, "isolation", "off"), base)


def _optimizers(records: StudyRecords) -> dict[str, Estimate]:
    steps = lm.steps_to_equal_loss(records)
    return {
        **{f"loss_{name}": _last_loss(records, name) for name in lm.OPTIMIZERS},
        **{f"steps_{name}": _steps(found) for name, found in steps.items()},
        **{
            f"steps_{name}_over_{lm.REFERENCE}": lm.over(found, steps[lm.REFERENCE])
            for name, found in steps.items()
            if name != lm.REFERENCE
        },
    }


def _last_loss(records: StudyRecords, optimizer: str) -> Estimate:
    return mean_interval([float(curve.iloc[-1]) for curve in lm.losses(records, optimizer).values()], "nats")


def _steps(found: pd.Series) -> Estimate:
    return geometric_mean(found.sort_index().tolist(), "steps")


def _stability(records: StudyRecords, sink: object) -> dict[str, Estimate]:
    if records.is_dropped("sweep", "stability"):
        names = ("unstable_no_sink", "unstable_sink", "sink_stabilises", "unstable_at_lowest_rate")
        return {**dict.fromkeys(names, Estimate.missing("fraction")), "unstable_when_lost": Estimate.missing("nats")}
    rates = records.only(sweep="stability").values("lr")
    lost = records.pick_any("unstable", sweep="stability")
    without, kept = (lm.unstable(records, size, rates[-1]) for size in (0, sink))
    return {
        "unstable_no_sink": lm.rate(without),
        "unstable_sink": lm.rate(kept),
        "sink_stabilises": lm.difference(without, kept),
        "unstable_at_lowest_rate": lm.rate(lm.unstable(records, sink, rates[0])),
        "unstable_when_lost": mean_interval(lost["lost"].drop_duplicates(), "nats"),
    }
