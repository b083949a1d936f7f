"""nsa_needle in the paper: answers by length and depth, what was selected, and what each way of teaching comes to."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from ripstop.paper import learning, needles, plots, style
from ripstop.paper.heat import heat_map
from ripstop.paper.needles import FAMILIES, LABELS, SPARSE, TAUGHT, THRESHOLD, WAYS, Arm
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, mean_interval

CONTROLS = {
    "random": "random selection",
    "silent": "no summary",
    "random_silent": "random selection, no summary",
    "oracle": "oracle's selection",
}
NSA, ATTENTION = Arm.of(SPARSE), Arm.of("attention")

ARMS = {"haystack": ("tokens", "prose"), "architecture": tuple(LABELS), "teaching": tuple(WAYS)}
NUMBERS = (
    *(f"found_{name}" for name in LABELS),
    "found_attention_worst_seed",
    "found_mamba2_shortest",
    *(f"found_nsa_{way}" for way in WAYS),
    *(f"found_nsa_{way}_{control}" for way in WAYS for control in CONTROLS),
    *(f"found_prose_{name}" for name in (SPARSE, "attention")),
    *(f"taught_minus_none_{way}" for way in WAYS if way != "none"),
    "oracle_gain",
    "selection_recall",
    "selection_floor",
    "random_minus_floor",
    *(f"effective_{family}_{name}" for family in FAMILIES for name in (SPARSE, "attention")),
    "trained_length",
    "longest_length",
    "questions_longest",
    "stretch_nsa",
    *(f"{what}_read_{name}" for what in ("tokens", "bytes") for name in (SPARSE, "attention")),
    "n_gates_collapsed",
    "n_not_converged",
    "control_wrong",
    "chance",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """found_...: of the single needle at the longest length, over the depths between the first and the last; found_nsa_<way> by
    how the selection was taught, found_nsa_<way>_<control> under a control; found_attention_worst_seed is the positive control.
    found_mamba2_shortest: at the shortest length, which tells not learnt from forgotten.

    taught_minus_none_..., oracle_gain: of found_..., seed by seed. selection_...: whether the needle's block was selected, as
    found, over layers and groups. random_minus_floor: at every length, what a random selection comes to by count minus what it
    comes to by formula. stretch_nsa: effective length of the single needle over the longest row trained on. control_wrong: at
    the shortest length, over the arms, with the haystack of another row.
    """
    longest = needles.lengths(records)[-1]
    taught = {way: needles.found(records, Arm(SPARSE, way), longest) for way in WAYS}
    beside = {ATTENTION.architecture: ATTENTION, SPARSE: NSA}
    oracle = needles.found(records, NSA, longest, "oracle")
    at = {"length": longest, **NSA.factors}
    effective = {
        f"effective_{family}_{name}": needles.effective(records, family, arm)
        for family in FAMILIES
        for name, arm in beside.items()
    }
    trained = needles.constant(records, "trained_length", "tokens", **ATTENTION.factors)
    return {
        **{f"found_{name}": needles.fraction(needles.found(records, Arm.of(name), longest)) for name in LABELS},
        "found_attention_worst_seed": needles.worst(needles.found(records, ATTENTION, longest)),
        **{f"found_nsa_{way}": needles.fraction(found) for way, found in taught.items()},
        **{
            f"found_nsa_{way}_{name}": needles.fraction(needles.found(records, Arm(SPARSE, way), longest, name))
            for way in WAYS
            for name in CONTROLS
        },
        "found_mamba2_shortest": needles.fraction(needles.found(records, Arm.of("mamba2"), needles.lengths(records)[0])),
        **{f"found_prose_{name}": needles.fraction(needles.found(records, Arm.of(name, "prose"), longest)) for name in beside},
        **{f"taught_minus_none_{way}": needles.difference(taught[way], taught["none"]) for way in WAYS if way != "none"},
        "oracle_gain": needles.difference(oracle, taught[TAUGHT]),
        "selection_recall": needles.fraction(needles.inside(records, "selection_recall", control="own", **at)),
        "selection_floor": needles.fraction(needles.inside(records, "selection_floor", **at)),
        "random_minus_floor": needles.difference(
            needles.inside(records, "selection_recall", control="random", **NSA.factors),
            needles.inside(records, "selection_floor", **NSA.factors),
        ),
        **effective,
        "trained_length": trained,
        "longest_length": Estimate.exact(longest, records.n_seeds, "tokens"),
        "questions_longest": needles.n_questions(records, ATTENTION, longest),
        "stretch_nsa": effective["effective_single_nsa"].over(trained),
        **{
            f"{what}_read_{name}": needles.constant(
                records, f"{what}_read", what, family="single", length=longest, **arm.factors
            )
            for what in ("tokens", "bytes")
            for name, arm in beside.items()
        },
        "n_gates_collapsed": needles.n_collapsed(records),
        "n_not_converged": learning.n_not_converged(records, "arm"),
        "control_wrong": mean_interval(
            records.mean_by_seed(
                "accuracy", control="wrong", family="single", length=needles.lengths(records)[0], haystack="tokens"
            ),
            "fraction",
        ),
        "chance": needles.constant(records, "chance", "fraction", haystack="tokens"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Answers by length; by length and depth; the selection of the needle's block; what is selected where."""
    return {
        "nsa_needle": _answers(records),
        "nsa_needle_depth": _depths(records),
        "nsa_needle_selection": _selection(records),
        "nsa_needle_blocks": _blocks(records),
    }


def tables(records: StudyRecords) -> dict[str, Table]:
    """Ways of teaching; effective lengths by family; what an answer reads and a haystack takes."""
    return {
        "nsa_needle": _teaching(records),
        "nsa_needle_effective": _effective_lengths(records),
        "nsa_needle_cost": _costs(records),
    }


def _architectures(records: StudyRecords) -> list[str]:
    return [name for name in LABELS if not records.is_dropped("architecture", name)]


def _answers(records: StudyRecords) -> Figure:
    """A curve an architecture; chance is dashed."""
    lengths, names = needles.lengths(records), _architectures(records)
    looks = style.looks(names)
    fig = style.figure(columns=1, height=2.6)
    ax = fig.subplots()
    for name in names:
        curve = [needles.fraction(needles.found(records, Arm.of(name), length)) for length in lengths]
        plots.curve_with_interval(ax, lengths, curve, LABELS[name], looks[name])
    chance = needles.constant(records, "chance", "fraction", haystack="tokens").value
    plots.fitted_line(ax, lengths, [chance] * len(lengths), "chance")
    plots.log2_axis(ax, lengths, "tokens read when the answer is due")
    ax.set_ylabel("needles found")
    ax.set_ylim(-0.03, 1.03)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _depths(records: StudyRecords) -> Figure:
    """A map an architecture, and one of the honest control."""
    lengths, depths = needles.lengths(records), records.values("depth")
    panels = [(LABELS[name], Arm.of(name), "own") for name in _architectures(records)]
    panels += [(CONTROLS["random_silent"], NSA, "random_silent")]
    n_rows = math.ceil(len(panels) / 3)
    fig = style.figure(columns=2, height=1.8 * n_rows + 0.3)
    axes = fig.subplots(n_rows, 3, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, (title, arm, control) in zip(axes, panels, strict=False):
        at = {"family": "single", "control": control, **arm.factors}
        rows = records.pick("accuracy_at_depth", **at)
        cells = rows.groupby(["depth", "length"])["value"].mean().unstack().reindex(index=depths, columns=lengths)
        image = heat_map(ax, cells.to_numpy(), [needles.short(n) for n in lengths], [f"{depth:g}" for depth in depths])
        ax.set_title(title, fontsize=7)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    fig.supxlabel("tokens read when the answer is due", fontsize=8)
    fig.supylabel("depth of the needle", fontsize=8)
    fig.colorbar(image, ax=axes.tolist(), label="answers that are right", shrink=0.7)
    return fig


def _selection(records: StudyRecords) -> Figure:
    """The needle's block by length: each layer and group, and luck, by count and by formula, and the ceiling of 1."""
    lengths = needles.lengths(records)
    fig = style.figure(columns=1, height=2.7)
    ax = fig.subplots()
    rows = records.pick("selection_recall_at_depth", control="own", **NSA.factors)
    places = rows[["layer", "group"]].drop_duplicates().sort_values(["layer", "group"])
    which: dict[str, dict[str, object]] = {
        f"layer {layer + 1:g}, group {group + 1:g}": {"control": "own", "layer": layer, "group": group}
        for layer, group in places.itertuples(index=False)
    }
    which["random, by count"] = {"control": "random"}
    looks = style.looks(list(which))
    for label, where in which.items():
        curve = [
            needles.fraction(needles.inside(records, "selection_recall", length=n, **where, **NSA.factors)) for n in lengths
        ]
        plots.curve_with_interval(ax, lengths, curve, label, looks[label])
    floor = [needles.inside(records, "selection_floor", length=n, **NSA.factors) for n in lengths]
    plots.fitted_line(ax, lengths, [needles.fraction(values).value for values in floor], "random, by formula")
    plots.reference_line(ax, 1.0, "all that can be")
    plots.log2_axis(ax, lengths, "tokens read when the answer is due")
    ax.set_ylabel("needle's block selected")
    ax.set_ylim(-0.03, 1.1)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _blocks(records: StudyRecords) -> Figure:
    """Which part of a sequence selects from which, a map a layer; and the gates of each layer."""
    rows = records.pick("selected_share", **NSA.factors)
    layers = sorted(rows["layer"].unique().tolist())
    fig = style.figure(columns=2, height=2.5)
    *maps, last = fig.subplots(1, len(layers) + 1, squeeze=False)[0]
    for ax, layer in zip(maps, layers, strict=True):
        shares = rows[rows["layer"] == layer].groupby(["query_part", "key_part"])["value"].mean().unstack()
        image = heat_map(ax, shares.to_numpy(), [], [], digits=False)
        ax.set_title(f"layer {layer + 1:g}")
        ax.set_xlabel("part of the sequence that is read")
        ax.set_ylabel("part of the token that reads")
    if layers:
        fig.colorbar(image, ax=maps[-1], label="tokens that select a block of it")
    for beside, (branch, look) in enumerate(style.looks(["compressed", "selected", "window"]).items()):
        gates = [records.mean("gate", layer=layer, branch=branch, **NSA.factors) for layer in layers]
        plots.scatter_with_interval(last, [layer + 0.9 + 0.1 * beside for layer in layers], gates, branch, look)
    last.set_xticks([layer + 1 for layer in layers])
    last.set_xlim(0.5, max(1, len(layers)) + 0.5)
    last.set_ylim(0, 1)
    last.set_xlabel("layer")
    last.set_ylabel("mean gate")
    last.legend()
    return fig


def _teaching(records: StudyRecords) -> Table:
    longest = needles.lengths(records)[-1]
    rows: list[list[Cell]] = []
    for way, label in WAYS.items():
        if records.is_dropped("teaching", way):
            continue
        arm = Arm(SPARSE, way)
        found = [needles.fraction(needles.found(records, arm, longest, name)) for name in ("own", *CONTROLS)]
        at = {"length": longest, **arm.factors}
        recall = needles.fraction(needles.inside(records, "selection_recall", control="own", **at))
        luck = needles.fraction(needles.inside(records, "selection_floor", **at))
        rows.append([learning.mark(records, label, arm=arm.name), *found, recall, luck])
    return Table(
        header=["taught by", "found", *CONTROLS.values(), "block selected", "at random"],
        rows=rows,
        caption=f"Sparse attention by how its selection is taught: the single needle at {needles.short(longest)} tokens, over "
        "the depths between the first and the last, and the same under the controls; how often its block was selected, "
        "and would be at random by formula; mean over seeds with its 95 % interval.",
        notes=learning.NOTES,
    )


def _effective_lengths(records: StudyRecords) -> Table:
    rows: list[list[Cell]] = []
    for arm in needles.arms(records):
        asked = needles.families(records, arm)
        rows.append([arm.label, *(needles.effective(records, f, arm) if f in asked else "not asked" for f in FAMILIES)])
    return Table(
        header=["architecture", *FAMILIES.values()],
        rows=rows,
        caption=f"Effective length in tokens: the longest of the test at which, and at every shorter one, {THRESHOLD:.0%} of "
        "the answers are right; geometric mean over seeds with its 95 % interval. A seed that fails at the shortest length, or "
        "holds to the longest, makes it a bound.",
    )


def _costs(records: StudyRecords) -> Table:
    longest = needles.lengths(records)[-1]
    rows: list[list[Cell]] = []
    for arm in needles.arms(records):
        read = [
            records.constant(f"{what}_read", family="single", length=longest, **arm.factors) for what in ("tokens", "bytes")
        ]
        seconds, peak = (records.mean(metric, length=longest, **arm.factors) for metric in ("prefill_seconds", "peak_bytes"))
        rows.append([arm.label, *(None if value is None else int(value) for value in read), seconds, peak.times(1e-6, "MB")])
    return Table(
        header=["architecture", "tokens read", "bytes read", "haystack (s)", "peak memory (MB)"],
        rows=rows,
        caption=f"A single needle at {needles.short(longest)} tokens: what the step that answers reads of the past, counted on "
        "the tensors that it is handed, all layers together; processor time to read the haystack, beside other work; and the "
        "largest memory of the process, its libraries included.",
    )
