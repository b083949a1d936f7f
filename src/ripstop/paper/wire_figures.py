"""Figures of wires: loss by the bytes of the context, and by what stands in the prompt."""

from __future__ import annotations

from matplotlib.figure import Figure

from ripstop.paper import plots, style, wires
from ripstop.paper.select import StudyRecords
from ripstop.paper.wires import BOTH, CODINGS, CONTROLS, FIRST, FORMATS, HEADLINE, NARROW, TEXT, TEXTS, Asked
from ripstop.statistics import Estimate

LOSS = "loss of the answer (nats per token)"


def by_bytes(records: StudyRecords) -> Figure:
    """Wires by format, for each number of vectors; the text cut, in UTF-8, and whole, coded; what takes no bytes as lines."""
    m, sizes = wires.headline(records), [int(n) for n in records.values("n_vectors")]
    text = Asked(TEXT, m, BOTH)
    wires_drawn = {_label(label, n): Asked(name, n) for n in sizes for name, label in HEADLINE.items()}
    wires_drawn[_label(NARROW_LABEL, m)] = Asked(NARROW, m)
    looks = style.looks([*wires_drawn, CUT, WHOLE])
    fig = style.figure(columns=2, height=3.0)
    ax = fig.subplots()
    for label, arm in wires_drawn.items():
        x = [wires.bytes_each(records, "context_bytes", coding=bits, **arm.factors).value for bits in FORMATS]
        losses = [wires.loss(records, arm, format=bits) for bits in FORMATS]
        plots.curve_with_interval(ax, x, losses, label, looks[label])
    cut, whole = _cut(records, sizes), _whole(records, text)
    plots.curve_with_interval(ax, [x for x, _ in cut], [y for _, y in cut], CUT, looks[CUT])
    plots.scatter_with_interval(ax, [x for x, _ in whole], [y for _, y in whole], WHOLE, looks[WHOLE])
    for label, level in _levels(records, text).items():
        plots.reference_line(ax, level.value, label)
    every = [point.x for point in plots.curves(ax)]
    if every:
        low, high = int(min(every)).bit_length() - 1, int(max(every)).bit_length()
        plots.log2_axis(ax, [2**k for k in range(low, high + 1)], "bytes of the context, a mean over documents")
    ax.set_ylabel(LOSS)
    fig.legend(loc="outside lower center", ncols=3)
    return fig


CUT, WHOLE = "text, cut", "full text, coded"
NARROW_LABEL = "narrow pointer"


def by_prompt(records: StudyRecords) -> Figure:
    """A row for each prompt of the headline's arms; below them what is the same for all."""
    m = wires.headline(records)
    text = Asked(TEXT, m, BOTH)
    below = {label: wires.loss(records, text, prompt) for prompt, label in TEXTS.items()}
    below |= {"learned constant wire": wires.loss(records, Asked("constant", m))}
    fig = style.figure(columns=2, height=2.8)
    axes = fig.subplots(1, len(HEADLINE), sharex=True, sharey=True)
    for ax, (name, label) in zip(axes, HEADLINE.items(), strict=True):
        rows = {said: wires.loss(records, Asked(name, m), control) for control, said in CONTROLS.items()} | below
        plots.forest(ax, list(rows), list(rows.values()))
        ax.set_title(label)
        ax.set_xlabel(LOSS)
    return fig


def _label(name: str, n_vectors: int) -> str:
    return f"{name}, M = {n_vectors}"


def _levels(records: StudyRecords, text: Asked) -> dict[str, Estimate]:
    return {
        "closed book": wires.loss(records, text, "closed"),
        "learned constant wire": wires.loss(records, Asked("constant", text.n_vectors)),
    }


def _cut(records: StudyRecords, sizes: list[int]) -> list[tuple[float, Estimate]]:
    """Bytes and loss of the text cut to the tokens of a wire, and to the bytes of several; the shortest first."""
    found = []
    for text in (Asked(TEXT, n, BOTH) for n in sizes):
        cut = records.pick("context_bytes", prompt="cut_bytes", **text.by(FIRST))["format"].unique()
        for prompt, format_ in (("cut_tokens", "none"), *(("cut_bytes", str(size)) for size in cut)):
            size = wires.bytes_each(records, "context_bytes", coding="utf8", prompt=prompt, format=format_, **text.by(FIRST))
            if size.value:  # nothing is left where every document begins with a longer word
                found.append((size.value, wires.loss(records, text, prompt, format=format_)))
    return sorted(found, key=lambda point: point[0])


def _whole(records: StudyRecords, text: Asked) -> list[tuple[float, Estimate]]:
    """Bytes of the full text under each coding, and its loss: what the coded documents shrink to stands for all."""
    full = wires.bytes_each(records, "context_bytes", coding="utf8", prompt="text", format="none", **text.by(FIRST)).value
    coded = {c: wires.bytes_each(records, "coded_bytes", coding=c, **text.by(FIRST)).value for c in CODINGS}
    loss = wires.loss(records, text, "text")
    return [(full * coded[coding] / coded["utf8"], loss) for coding in CODINGS]
