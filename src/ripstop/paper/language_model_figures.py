"""Figures of language models: bits per byte by position and by what is swept, learning curves, unstable trainings."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripstop.paper import language_models as lm
from ripstop.paper import plots, style
from ripstop.paper.select import StudyRecords

SWEEPS = {"window": "window (tokens)", "cycle": "cycle", "rank": "latent rank"}
"""What is drawn -> the name of its axis."""


def by_position(records: StudyRecords) -> Figure:
    """A curve an architecture over ranges of positions; the n-gram model's bits per byte of the whole text are dashed."""
    names = [name for name in lm.LABELS if not records.is_dropped("architecture", name)]
    looks = style.looks(names)
    at = records.pick("bits_per_byte_at", **lm.of(lm.BASE))["position"]
    positions = sorted(int(position) for position in at.unique())
    fig = style.figure(columns=1, height=2.9)
    ax = fig.subplots()
    x = range(len(positions))
    for name in names:
        curve = [lm.bits(lm.scored(records, lm.of(name), "bits_per_byte_at", position=at)) for at in positions]
        plots.curve_with_interval(ax, x, curve, lm.LABELS[name], looks[name])
    order, value = lm.ngram(records)
    plots.reference_line(ax, value, f"{order}-gram model, all positions", side="right")
    past = records.pick("bits_per_byte_past", **lm.of(lm.BASE))["position"].iloc[0]
    plots.reference_line(ax, positions.index(int(past)) - 0.5, "past window and sink", "x")
    ax.set_xticks(x, ranges(positions))
    ax.set_xlabel("position in the document (tokens)")
    ax.set_ylabel("bits per byte")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def ranges(positions: list[int]) -> list[str]:
    """What each range of positions is called: `0-15`, and `256+` for the last."""
    ends = [f"{begin}-{end - 1}" for begin, end in zip(positions, positions[1:], strict=False)]
    return [*ends, f"{positions[-1]}+"]


def sweeps(records: StudyRecords) -> Figure:
    """Above: bits per byte, of all text and past the window. Below: bytes of state at the context, a KiB being 1024."""
    present = {name: label for name, label in SWEEPS.items() if not records.is_dropped("sweep", name)}
    fig = style.figure(columns=2, height=3.3)
    if not present:
        return fig
    upper, lower = fig.subplots(2, len(present), squeeze=False, sharex="col")
    whole, past = style.ordered(2)
    for ax, below, (sweep, label) in zip(upper, lower, present.items(), strict=True):
        found = lm.swept(records, sweep)
        x = range(len(found))
        for metric, look, name in (("bits_per_byte", whole, "all text"), ("bits_per_byte_past", past, "past window and sink")):
            curve = [lm.bits(lm.scored(records, where, metric)) for where in found.values()]
            plots.curve_with_interval(ax, x, curve, name if ax is upper[0] else "", look)
        states = [lm.constant(records, "state_bytes", "bytes", where).times(1 / 1024) for where in found.values()]
        plots.curve_with_interval(below, x, states, "", style.LOOKS["mla"])
        _from_zero(below)
        below.set_xticks(x, [f"{value:g}" if isinstance(value, int | float) else str(value) for value in found])
        below.set_xlabel(label)
    upper[0].set_ylabel("bits per byte")
    lower[0].set_ylabel("state (KiB)")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def learning_curves(records: StudyRecords) -> Figure:
    """Held-out loss by step, an optimizer a curve."""
    fig = style.figure(columns=1, height=2.5)
    ax = fig.subplots()
    curves = {name: lm.losses(records, name) for name in lm.OPTIMIZERS if not records.is_dropped("optimizer", name)}
    looks = style.looks(list(curves))
    for name, by_seed in curves.items():
        steps = [int(step) for step in next(iter(by_seed.values())).index] if by_seed else []
        losses = [records.mean("held_out_loss", sweep="optimizers", optimizer=name, step=step) for step in steps]
        plots.curve_with_interval(ax, steps, losses, lm.OPTIMIZERS[name], looks[name])
    ax.set_xlabel("steps")
    ax.set_ylabel("held-out loss (nats per token)")
    if curves:
        ax.legend()
    return fig


def stability(records: StudyRecords) -> Figure:
    """Trainings that were unstable or diverged, by learning rate, a size of the sink a curve."""
    fig = style.figure(columns=1, height=2.3)
    ax = fig.subplots()
    if not records.is_dropped("sweep", "stability"):
        tried = records.only(sweep="stability")
        rates, sinks = tried.values("lr"), tried.values("sink")
        for sink, look in zip(sinks, style.ordered(len(sinks)), strict=True):
            curve = [lm.rate(lm.unstable(records, sink, lr)) for lr in rates]
            plots.curve_with_interval(ax, range(len(rates)), curve, "no sink" if not sink else f"sink of {sink:g}", look)
        ax.set_xticks(range(len(rates)), [f"{lr:g}" for lr in rates])
        ax.legend()
    ax.set_xlabel("learning rate")
    ax.set_ylabel("unstable trainings")
    ax.set_ylim(-0.03, 1.03)
    return fig


def _from_zero(ax: Axes) -> None:
    """Bytes are compared by their lengths."""
    ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
