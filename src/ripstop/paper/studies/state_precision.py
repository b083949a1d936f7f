"""state_precision in the paper: what recall and text lose by the bits of the stored state, by mixer and by rounding."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper import precision as p
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, mean_interval

ARMS = {"architecture": tuple(p.LABELS), "task": ("recall", "text")}
NUMBERS = (
    *(f"{what}_{name}" for what in ("recall", "recall_long", "bits", "bits_long") for name in p.LABELS),
    *(f"int{n}_costs_{name}" for n in (8, 4) for name in p.LABELS),
    *(f"int{n}_costs_long_{name}" for n in (8, 4) for name in p.LABELS),
    "recall_worst",
    "recall_long_worst",
    "steps_minus_forward",
    "bits_long_recurrent",
    "bits_long_caches",
    "int4_costs_long_recurrent",
    "int4_costs_long_caches",
    "int4_costs_more_when_long",
    "int4_stochastic_minus_nearest",
    "int4_feedback_costs_long_recurrent",
    "int4_feedback_minus_half",
    "int4_feedback_minus_int8",
    "int4_feedback_bits",
    "int8_bits",
    "int8_minus_fp8_e4m3",
    "text_worst",
    "text_int8_recurrent",
    "text_int4_recurrent",
    "text_int4_caches",
    "text_int4_recurrent_minus_caches",
    "text_int4_feedback_recurrent",
    "drop",
    "longest",
    "chance",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """recall_...: in float32, at the length of the longest row of training; _long: at the longest row tested, `longest` times
    that. bits_...: per element, scales counted, at which recall is `drop` below that. ..._costs_...: of recall, against
    float32. recall_worst: of the worst architecture; recall_long_worst: of the worst that sees all of the past.
    steps_minus_forward: the most that recall by steps in float32 differs from that of a forward pass.

    recurrent, caches: means over `RECURRENT` and `CACHES`; with them everything is told at the longest rows.
    int4_costs_more_when_long: what the recurrent states lose there minus what they lose at the length of training.
    feedback_minus_half: its cost minus half of that without. feedback_minus_int8: at bits that are about equal, its own
    error's counted. text_...: bits per byte more than in float32, in the last half of the longest rows; text_worst: bits per
    byte in float32 there, of the worst language model.
    """
    short, long = p.lengths(records)
    seeing = p.present(records, [*p.RECURRENT, *p.CACHES])
    int8, int4, stochastic, feedback = (
        p.mean_lost(records, p.RECURRENT, long, *way)
        for way in (("int8",), ("int4",), ("int4", "stochastic"), ("int4", "feedback"))
    )
    int4_caches = p.mean_lost(records, p.CACHES, long, "int4")
    text_int4 = p.mean_text_cost(records, p.RECURRENT, long, "int4")
    text_caches = p.mean_text_cost(records, p.CACHES, long, "int4")
    return {
        **{f"recall_{name}": mean_interval(p.recall(records, name, short), "fraction") for name in p.LABELS},
        **{f"recall_long_{name}": mean_interval(p.recall(records, name, long), "fraction") for name in p.LABELS},
        **{f"bits_{name}": p.bits(records, [name], short) for name in p.LABELS},
        **{f"bits_long_{name}": p.bits(records, [name], long) for name in p.LABELS},
        **{
            f"int{n}_costs_{more}{name}": p.points(p.lost(records, name, length, f"int{n}"))
            for n in (8, 4)
            for more, length in (("", short), ("long_", long))
            for name in p.LABELS
        },
        "recall_worst": _worst(records, p.present(records, tuple(p.LABELS)), short),
        "recall_long_worst": _worst(records, seeing, long),
        "steps_minus_forward": _steps_minus_forward(records, p.present(records, tuple(p.LABELS))),
        "bits_long_recurrent": p.bits(records, p.RECURRENT, long),
        "bits_long_caches": p.bits(records, p.CACHES, long),
        "int4_costs_long_recurrent": p.points(int4),
        "int4_costs_long_caches": p.points(int4_caches),
        "int4_costs_more_when_long": p.difference(int4, p.mean_lost(records, p.RECURRENT, short, "int4")),
        "int4_stochastic_minus_nearest": p.difference(stochastic, int4),
        "int4_feedback_costs_long_recurrent": p.points(feedback),
        "int4_feedback_minus_half": p.difference(feedback, int4 / 2),
        "int4_feedback_minus_int8": p.difference(feedback, int8),
        "int4_feedback_bits": p.width_of_all(records, p.RECURRENT, "int4", "feedback"),
        "int8_bits": p.width_of_all(records, p.RECURRENT, "int8"),
        "int8_minus_fp8_e4m3": p.difference(int8, p.mean_lost(records, p.RECURRENT, long, "fp8_e4m3")),
        "text_worst": max(
            (mean_interval(p.text_bits(records, name, long), "bits") for name in p.text_models(records)), key=lambda e: e.value
        ),
        "text_int8_recurrent": p.points(p.mean_text_cost(records, p.RECURRENT, long, "int8")),
        "text_int4_recurrent": p.points(text_int4),
        "text_int4_caches": p.points(text_caches),
        "text_int4_recurrent_minus_caches": p.difference(text_int4, text_caches),
        "text_int4_feedback_recurrent": p.points(p.mean_text_cost(records, p.RECURRENT, long, "int4", "feedback")),
        "drop": Estimate.exact(p.DROP, 1, "fraction"),
        "longest": Estimate.exact(long, 1),
        "chance": Estimate.exact(records.chance, unit="fraction"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Recall lost by bits at both lengths; the same by rounding for recurrent states; bits per byte more."""
    return {
        "state_precision": _by_bits(records),
        "state_precision_rounding": _by_rounding(records),
        "state_precision_text": _of_text(records),
    }


def tables(records: StudyRecords) -> dict[str, Table]:
    """A row an architecture; a row a way of storing."""
    return {"state_precision": _architectures(records), "state_precision_formats": _formats(records)}


def _by_bits(records: StudyRecords) -> Figure:
    names = p.present(records, tuple(p.LABELS))
    looks = style.looks(names)
    short, long = p.lengths(records)
    fig = style.figure(columns=2, height=2.8)
    told: set[str] = set()
    for ax, length in zip(fig.subplots(1, 2, sharey=True), (short, long), strict=True):
        for name in names:
            if p.has_room(records, [name], length):
                widths = [p.width(records, [name], format) for format in p.WHOLE]
                costs = [p.points(p.lost(records, name, length, format)) for format in p.WHOLE]
                plots.curve_with_interval(ax, widths, costs, "" if name in told else p.LABELS[name], looks[name])
                told.add(name)
        plots.reference_line(ax, p.DROP, f"{p.DROP:g}", side="right")
        _bits_axis(ax, f"{length} times the row of training" if length > 1 else "the longest row of training")
    fig.axes[0].set_ylabel("recall lost")
    if told:
        fig.legend(loc="outside lower center", ncols=3)
    return fig


def _by_rounding(records: StudyRecords) -> Figure:
    _, long = p.lengths(records)
    names = p.present(records, p.RECURRENT)
    fig = style.figure(columns=1, height=2.5)
    ax = fig.subplots()
    looks = style.looks(list(p.ROUNDINGS))
    for rounding, label in p.ROUNDINGS.items():
        formats = [format for format in p.WHOLE if format in p.LADDER[rounding]]
        costs = [p.points(p.mean_lost(records, names, long, format, rounding)) for format in formats]
        plots.curve_with_interval(
            ax, [p.width(records, names, format, rounding) for format in formats], costs, label, looks[rounding]
        )
    plots.reference_line(ax, p.DROP, f"{p.DROP:g}", side="right")
    _bits_axis(ax, "")
    ax.set_ylabel("recall lost, recurrent states")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


def _of_text(records: StudyRecords) -> Figure:
    _, long = p.lengths(records)
    names = p.text_models(records)
    looks = style.looks(names)
    fig = style.figure(columns=1, height=2.5)
    ax = fig.subplots()
    for name in names:
        widths = [p.width(records, [name], format, task="text") for format in p.WHOLE]
        costs = [p.points(p.text_cost(records, name, long, format)) for format in p.WHOLE]
        plots.curve_with_interval(ax, widths, costs, p.LABELS[name], looks[name])
    _bits_axis(ax, "")
    ax.set_ylabel("bits per byte more")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _bits_axis(ax: Axes, title: str) -> None:
    ax.set_title(title)
    ax.set_xlabel("bits per element, scales counted")


def _architectures(records: StudyRecords) -> Table:
    short, long = p.lengths(records)
    rows: list[list[Cell]] = []
    for name in p.present(records, tuple(p.LABELS)):
        held = records.constant("stored_state_bytes", task="recall", architecture=name, format=p.EXACT, rounding="nearest")
        row: list[Cell] = [p.LABELS[name], None if held is None else int(held)]
        for length in (short, long):
            cost = p.points(p.lost(records, name, length, "int4"))
            row += [mean_interval(p.recall(records, name, length), "fraction"), p.bits(records, [name], length), cost]
        rows.append(row)
    heads = [f"{what}, {length}x" for length in (short, long) for what in ("recall", "bits", "int4 costs")]
    return Table(
        header=["architecture", "state (bytes)", *heads],
        rows=rows,
        caption="Recall with the state in float32, the bits per element, scales counted, at which whole numbers rounded to "
        f"nearest cost {p.DROP:g} of it, and what 4 bits cost, in rows as long as the longest of training and {long} times as "
        "long; bytes of the state in float32 at the end of the longest. Mean over seeds with its 95 % interval. Where recall "
        f"in float32 is below {p.ROOM:g} nothing is said of bits.",
    )


def _formats(records: StudyRecords) -> Table:
    _, long = p.lengths(records)
    recurrent, caches = (p.present(records, names) for names in (p.RECURRENT, p.CACHES))
    rows: list[list[Cell]] = []
    for rounding, formats in p.LADDER.items():
        for format in formats:
            way = (long, format, rounding)
            rows.append([
                format,
                p.ROUNDINGS[rounding],
                p.width(records, recurrent, format, rounding) if recurrent else None,
                p.points(p.mean_lost(records, recurrent, *way)),
                p.points(p.mean_lost(records, caches, *way)),
                p.points(p.mean_text_cost(records, recurrent, *way)),
                p.points(p.mean_text_cost(records, caches, *way)),
            ])  # fmt: skip
    return Table(
        header=["format", "rounded", "bits", "recurrent: recall", "caches: recall", "recurrent: text", "caches: text"],
        rows=rows,
        caption=f"What it costs to store the state between tokens in each format, at {long} times the longest row of training: "
        "recall lost, and bits per byte more, against float32, mean over architectures whose state is recurrent, and over "
        "those that keep keys and values or latents of all of the past; with 95 % intervals over seeds. Bits per element of a "
        "recurrent model's state count scales and carried errors.",
    )


def _worst(records: StudyRecords, architectures: Sequence[str], length: int) -> Estimate:
    """The lowest of the architectures' means."""
    means = [mean_interval(p.recall(records, name, length), "fraction") for name in architectures]
    return min(means, key=lambda mean: mean.value)


def _steps_minus_forward(records: StudyRecords, architectures: Sequence[str]) -> Estimate:
    found: list[pd.Series] = []
    for length in records.values("length"):
        for name in architectures:
            forward = records.by_seed("forward_accuracy", task="recall", architecture=name, length=length)
            found.append((p.recall(records, name, length) - forward).abs())
    return Estimate.exact(float(pd.concat(found).max()), len(found[0]), "fraction")
