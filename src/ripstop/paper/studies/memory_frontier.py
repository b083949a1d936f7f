"""memory_frontier in the paper: recall against the bytes that are held, and read for a token, one curve a mixer."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import costs, frontier, learning, plots, style
from ripstop.paper.by_heart import by_heart
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Marked, Table
from ripstop.statistics import Capacity, Estimate, by_common_seed, capacity_interval, difference_interval, mean_interval

LABELS = {
    "attention": "attention",
    "mla": "latent attention",
    "sliding_window": "sliding window",
    "nsa": "sparse attention",
    "mamba2": "Mamba-2",
    "mamba3": "Mamba-3, real state",
    "gated_delta": "Gated DeltaNet",
    "kda": "Kimi Delta Attention",
}
CONSTANT = ("mamba2", "mamba3", "gated_delta", "kda")
"""Mixers whose memory has one size at every length."""
LEVEL = 0.9
"""Of recall, whose bytes are compared."""
RATIOS = {
    "delta_over_mamba2": ("gated_delta", "mamba2"),
    "mamba3_over_mamba2": ("mamba3", "mamba2"),
    "kda_over_delta": ("kda", "gated_delta"),
    "latent_over_attention": ("mla", "attention"),
    "window_over_delta": ("sliding_window", "gated_delta"),
}
"""Number -> the mixers whose bytes held for LEVEL it divides."""
READ_RATIOS = {"sparse_reads_over_attention": ("nsa", "attention"), "latent_reads_over_attention": ("mla", "attention")}
"""The same of bytes read."""
HELD, READ = "state_bytes", "bytes_read"
FAMILIES = {
    "delta_rule": ("gated_delta", "kda"),
    "other_states": ("mamba2", "mamba3"),
    "caches": ("attention", "mla", "sliding_window", "nsa"),
}

ARMS = {"mixer": tuple(LABELS)}
NUMBERS = (
    *(f"recall_{name}" for name in LABELS),
    *(f"bytes_{name}" for name in LABELS),
    *RATIOS,
    *READ_RATIOS,
    *(
        f"{efficient}{family}"
        for efficient in ("efficient", "efficient_read")
        for family in ("", *(f"_{name}" for name in FAMILIES))
    ),
    "delta_minus_mamba2",
    "delta_minus_mamba2_least",
    "least_rise_constant",
    "recall_attention_worst_seed",
    "control_wrong",
    "formula_gap",
    "parameter_spread",
    "n_not_converged",
    "pairs_asked",
    "pairs_most",
    "row_tokens",
    "chance",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """What each mixer recalls and holds, the bytes that LEVEL takes, their ratios, and the controls; `asked` pairs throughout.

    recall_...: at the largest memory. bytes_...: held for LEVEL. efficient: models in the efficient set, in all
    and by family.
    delta_minus_mamba2: recall at equal elements of state, mean over the sizes that both have; ..._least: where it is least.
    least_rise_constant: of all steps from one size to the next of CONSTANT mixers that by which recall rises least.
    recall_attention_worst_seed: the positive control, at the largest memory. control_wrong: at the fewest pairs, over all arms.
    formula_gap: bytes between count and formula, held or read. parameter_spread: of the largest model's parameters.
    """
    fewest, most = records.values("num_pairs")[0], records.values("num_pairs")[-1]
    needed, read = ({name: _needed(records, metric, name) for name in LABELS} for metric in (HELD, READ))
    attention = _largest(records, "attention")
    return {
        **{f"recall_{name}": mean_interval(_largest(records, name), "fraction") for name in LABELS},
        **{f"bytes_{name}": capacity_interval(list(needed[name].values()), "bytes") for name in LABELS},
        **{name: frontier.ratio(needed[own], needed[other]) for name, (own, other) in RATIOS.items()},
        **{name: frontier.ratio(read[own], read[other]) for name, (own, other) in READ_RATIOS.items()},
        **_efficient(records, "efficient", HELD),
        **_efficient(records, "efficient_read", READ),
        **_at_equal_state(records),
        "least_rise_constant": _least(
            [
                _difference(_recall(records, name, large), _recall(records, name, small))
                for name in CONSTANT
                for small, large in zip(_sizes(records, name), _sizes(records, name)[1:], strict=False)
            ]
        ),
        "recall_attention_worst_seed": Estimate.exact(float(attention.min()), len(attention), "fraction")
        if len(attention)
        else Estimate.missing("fraction"),
        "control_wrong": mean_interval(records.mean_by_seed("accuracy", control="wrong", num_pairs=fewest), "fraction"),
        "formula_gap": Estimate.exact(max(_gaps(records)), 1, "bytes"),
        "parameter_spread": _spread(records),
        "n_not_converged": learning.n_not_converged(records, "arm"),
        "pairs_asked": Estimate.exact(asked(records), unit="pairs"),
        "pairs_most": Estimate.exact(most, unit="pairs"),
        "row_tokens": Estimate.exact(float(records.pick(HELD, num_pairs=asked(records))["context"].max()), unit="tokens"),
        "chance": Estimate.exact(records.chance, unit="fraction"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Left: recall against the bytes that one row of the asked pairs holds. Right: against those that its last step reads.

    The dashed line is the efficient set.
    """
    names = _mixers(records)
    looks = style.looks(names)
    fig = style.figure(columns=2, height=2.9)
    panels = fig.subplots(1, 2, sharey=True)
    for ax, metric, label in zip(panels, (HELD, READ), ("bytes held", "bytes read per token"), strict=True):
        for name in names:
            sizes = _sizes(records, name)
            curve = [mean_interval(_recall(records, name, size), "fraction") for size in sizes]
            at = [_bytes(records, metric, name, size) for size in sizes]
            plots.curve_with_interval(ax, at, curve, LABELS.get(name, name), looks[name])
        costs.bytes_axis(ax, "x")
        points = _points(records, metric)
        frontier.staircase(ax, [points[member] for member in frontier.efficient(points)])
        ax.set_xlabel(label)
    panels[0].set_ylabel(f"recall of {asked(records):g} pairs")
    panels[0].set_ylim(0, 1.03)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return {"memory_frontier": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Bytes and recall of every mixer at every size, and what each mixer chose."""
    pairs = [n for n in records.values("num_pairs") if n >= asked(records)]
    held, read = (set(frontier.efficient(_points(records, metric))) for metric in (HELD, READ))
    rows: list[list[Cell]] = []
    for name in _mixers(records):
        for size in _sizes(records, name):
            arm = {"mixer": name, "memory_size": size}
            own = (name, size)
            marks = ("*" if own in held else "") + ("†" if own in read else "")
            recalls: list[Cell] = [records.mean("accuracy", control="own", num_pairs=n, **arm) for n in pairs]
            first = recalls[0]
            assert isinstance(first, Estimate)
            recalls[0] = Marked(first, marks)
            counts = (int(_bytes(records, metric, name, size)) for metric in (HELD, READ))
            parameters = records.constant("parameters", **arm)
            label = learning.mark(records, f"{LABELS.get(name, name)}, {size}", **arm)
            rows.append([label, *counts, None if parameters is None else int(parameters), *recalls, records.capacity(**arm)])
    return {
        "memory_frontier": Table(
            header=["mixer, size", "held", "read", "parameters", *(f"{int(n)} pairs" for n in pairs), "capacity (pairs)"],
            rows=rows,
            caption=f"Bytes that one row of {asked(records):g} pairs holds, and that the step of its last token reads, counted "
            "on tensors; parameters of the whole model; recall by number of pairs and capacity, with 95 % intervals.",
            notes=[
                "* in the efficient set of bytes held, † of bytes read: nothing recalls as much for fewer bytes.",
                *learning.NOTES,
            ],
        ),
        **learning.settings(records, "memory_frontier_settings", "mixer", LABELS),
    }


def asked(records: StudyRecords) -> float:
    """The number of pairs at which mixers are compared."""
    return float(records.values("num_pairs")[-frontier.LEAST_PAIRS])


def _mixers(records: StudyRecords) -> list[str]:
    """In the order of the legend; new ones come last under their own names."""
    present = records.values("mixer")
    return [*(name for name in LABELS if name in present), *(name for name in present if name not in LABELS)]


def _sizes(records: StudyRecords, name: str) -> list[int]:
    return [] if records.is_dropped("mixer", name) else [int(size) for size in records.only(mixer=name).values("memory_size")]


@by_heart
def _recall(records: StudyRecords, name: str, size: int) -> pd.Series:
    """By seed, of the asked number of pairs."""
    return records.by_seed("accuracy", control="own", num_pairs=asked(records), mixer=name, memory_size=size)


def _largest(records: StudyRecords, name: str) -> pd.Series:
    """The recall of a mixer's largest memory; none of a mixer that was dropped."""
    sizes = _sizes(records, name)
    return _recall(records, name, sizes[-1]) if sizes else pd.Series(dtype=float)


def _bytes(records: StudyRecords, metric: str, name: str, size: int) -> float:
    found = records.constant(metric, num_pairs=asked(records), mixer=name, memory_size=size)
    assert found is not None
    return found


@by_heart
def _points(records: StudyRecords, metric: str) -> dict[tuple[str, int], tuple[float, float]]:
    """(mixer, size) -> bytes and mean recall."""
    return {
        (name, size): (_bytes(records, metric, name, size), float(_recall(records, name, size).mean()))
        for name in _mixers(records)
        for size in _sizes(records, name)
    }


@by_heart
def _needed(records: StudyRecords, metric: str, name: str) -> dict[int, Capacity]:
    """Bytes for LEVEL, by seed."""
    sizes = _sizes(records, name)
    counted = [_bytes(records, metric, name, size) for size in sizes]
    recalls = [_recall(records, name, size) for size in sizes]
    seeds = [] if not sizes else by_common_seed(recalls).index.tolist()
    return {
        seed: frontier.bytes_for(LEVEL, sorted((at, float(recall[seed])) for at, recall in zip(counted, recalls, strict=True)))
        for seed in seeds
    }


def _efficient(records: StudyRecords, prefix: str, metric: str) -> dict[str, Estimate]:
    members = [name for name, _ in frontier.efficient(_points(records, metric))]
    found = {prefix: Estimate.exact(len(members), records.n_seeds, "count")}
    for family, names in FAMILIES.items():
        measured = any(_sizes(records, name) for name in names)
        count = Estimate.exact(sum(name in names for name in members), records.n_seeds, "count")
        found[f"{prefix}_{family}"] = count if measured else Estimate.missing("count")
    return found


def _at_equal_state(records: StudyRecords) -> dict[str, Estimate]:
    """Gated DeltaNet minus Mamba-2 at the sizes that both have."""
    both = [size for size in _sizes(records, "gated_delta") if size in _sizes(records, "mamba2")]
    pairs = [(_recall(records, "gated_delta", size), _recall(records, "mamba2", size)) for size in both]
    if not pairs:
        return dict.fromkeys(("delta_minus_mamba2", "delta_minus_mamba2_least"), Estimate.missing("fraction"))
    delta, mamba2 = (pd.concat(list(side), axis=1).mean(axis=1) for side in zip(*pairs, strict=True))
    return {
        "delta_minus_mamba2": _difference(delta, mamba2),
        "delta_minus_mamba2_least": _least([_difference(own, other) for own, other in pairs]),
    }


def _difference(own: pd.Series, other: pd.Series) -> Estimate:
    return difference_interval(own, other, "fraction")


def _least(found: list[Estimate]) -> Estimate:
    return min(found, key=lambda estimate: estimate.value, default=Estimate.missing("fraction"))


def _gaps(records: StudyRecords) -> Iterator[float]:
    """Between count and formula, of every arm."""
    for metric in (HELD, READ):
        count, formula = (records.pick(name).set_index(["run", "num_pairs"])["value"] for name in (metric, f"{metric}_formula"))
        yield float((count - formula).abs().max())


def _spread(records: StudyRecords) -> Estimate:
    """Largest minus smallest number of parameters, as a part of the largest."""
    found = records.pick("parameters")["value"]
    return Estimate.exact(float(1 - found.min() / found.max()), len(found), "fraction")
