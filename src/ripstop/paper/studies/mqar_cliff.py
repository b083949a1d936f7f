"""mqar_cliff in the paper: recall against pairs, one curve an architecture."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import learning, plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval

LABELS = {
    "mamba2": "Mamba-2",
    "mamba3": "Mamba-3, complex state",
    "gated_delta": "Gated DeltaNet",
    "kda": "Kimi Delta Attention",
    "attention": "attention",
    "attention_conv": "attention + short conv.",
    "sliding_window": "sliding window",
    "mamba2_attention": "Mamba-2, then attention",
    "attention_mamba2": "attention, then Mamba-2",
}
SHORT = {
    "mamba2": "mamba2",
    "mamba3": "mamba3",
    "gated_delta": "gated_delta",
    "kda": "kda",
    "attention": "attention",
    "attention_conv": "attention_conv",
    "mamba2_attention": "hybrid",
    "attention_mamba2": "hybrid_reversed",
    "sliding_window": "sliding_window",
}
"""Architecture -> its name in the numbers."""
RECURRENT = ("mamba3", "gated_delta", "kda")
"""With as many elements of state as Mamba-2, which they are compared with."""
CONTROLS = ("wrong", "shuffled", "zero")

ARMS = {"architecture": tuple(LABELS)}
PARTS = {"state_bytes": "state_size", "held_out_accuracy": "learning_curve"}
NUMBERS = (
    *(f"recall_{short}_max_pairs" for short in SHORT.values()),
    "recall_attention_worst_seed",
    "capacity_mamba2",
    "cliff_ratio_mamba2",
    "hybrid_gain",
    *(f"{name}_gain" for name in RECURRENT),
    *(f"control_{control}" for control in CONTROLS),
    "n_not_converged",
    "chance",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Recall at the largest number of pairs, the place of the cliff over d_state, and the controls.

    recall_attention_worst_seed: the positive control, as the literature has it for every seed.
    hybrid_gain: recall of Mamba-2 followed by attention minus that of pure Mamba-2, at the largest number of pairs.
    mamba3_gain, ...: recall of that mixer minus that of Mamba-2, averaged over the numbers of pairs.
    control_...: accuracy at the smallest number of pairs, where a model recalls best, averaged over architectures.
    n_not_converged: architectures whose recall was still moving when their training ended.
    """
    fewest, most = records.values("num_pairs")[0], records.values("num_pairs")[-1]
    capacity = records.capacity(architecture="mamba2")
    d_state = records.factor("d_state", architecture="mamba2")
    hybrid, pure = (
        records.by_seed("accuracy", architecture=name, control="own", num_pairs=most) for name in ("mamba2_attention", "mamba2")
    )
    averaged = {name: records.mean_by_seed("accuracy", architecture=name, control="own") for name in ("mamba2", *RECURRENT)}
    return {
        **{
            f"recall_{short}_max_pairs": records.mean("accuracy", architecture=name, control="own", num_pairs=most)
            for name, short in SHORT.items()
        },
        "recall_attention_worst_seed": _worst(
            records.by_seed("accuracy", architecture="attention", control="own", num_pairs=most)
        ),
        "capacity_mamba2": capacity,
        "cliff_ratio_mamba2": Estimate.missing() if d_state is None else capacity.times(1 / d_state),
        "hybrid_gain": _difference(hybrid, pure),
        **{f"{name}_gain": _difference(averaged[name], averaged["mamba2"]) for name in RECURRENT},
        **{
            f"control_{name}": mean_interval(records.mean_by_seed("accuracy", control=name, num_pairs=fewest), "fraction")
            for name in CONTROLS
        },
        "n_not_converged": learning.n_not_converged(records, "architecture"),
        "chance": Estimate.exact(records.chance, unit="fraction"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Recall against the number of pairs; the dashed line is chance."""
    pairs, architectures = records.values("num_pairs"), _architectures(records)
    looks = style.looks(architectures)
    fig = style.figure(columns=1, height=2.6)
    ax = fig.subplots()
    for name in architectures:
        curve = [records.mean("accuracy", architecture=name, control="own", num_pairs=n) for n in pairs]
        plots.curve_with_interval(ax, pairs, curve, _label(records, name), looks[name])
    plots.reference_line(ax, records.chance, "chance")
    plots.log2_axis(ax, pairs, "key-value pairs")
    ax.set_ylabel("recall")
    ax.set_ylim(0, 1.03)
    fig.legend(loc="outside lower center", ncols=2)
    return {"mqar_cliff": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Recall by pairs, capacity and the bytes of state the model really holds, a row an architecture."""
    pairs = records.values("num_pairs")
    rows: list[list[Cell]] = []
    for name in _architectures(records):
        curve = [records.mean("accuracy", architecture=name, control="own", num_pairs=n) for n in pairs]
        held = records.constant("state_bytes", architecture=name)
        rows.append([_label(records, name), *curve, records.capacity(architecture=name), None if held is None else int(held)])
    return {
        "mqar_cliff": Table(
            header=["architecture", *(f"{int(n)} pairs" for n in pairs), "capacity (pairs)", "state (bytes)"],
            rows=rows,
            caption="Recall on MQAR by number of key-value pairs, mean over seeds with its 95 % interval. Capacity is the "
            "number of pairs at half recall; state is what one sequence of the longest row holds, counted on the tensors.",
            notes=learning.NOTES,
        ),
        **learning.settings(records, "mqar_cliff_settings", "architecture", LABELS),
    }


def _worst(scores: pd.Series) -> Estimate:
    """The lowest of the seeds' values."""
    return Estimate.exact(float(scores.min()), len(scores), "fraction") if len(scores) else Estimate.missing("fraction")


def _difference(a: pd.Series, b: pd.Series) -> Estimate:
    return difference_interval(a, b, "fraction") if len(a) and len(b) else Estimate.missing("fraction")


def _label(records: StudyRecords, name: str) -> str:
    return learning.mark(records, LABELS.get(name, name), architecture=name)


def _architectures(records: StudyRecords) -> list[str]:
    """Architectures in the order of the legend; new ones come last under their own names."""
    present = records.values("architecture")
    return [*(name for name in LABELS if name in present), *(name for name in present if name not in LABELS)]
