"""mqar_cliff in the paper: recall against pairs, one curve an architecture."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper.select import by_seed, capacities, chance_level, pick, run_count
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, capacity_interval, difference_interval, mean_interval

LABELS = {
    "mamba2": "Mamba-2",
    "attention": "attention",
    "attention_conv": "attention + short conv.",
    "sliding_window": "sliding window",
    "mamba2_attention": "Mamba-2, then attention",
    "attention_mamba2": "attention, then Mamba-2",
}


def numbers(records: pd.DataFrame) -> dict[str, Estimate]:
    """Recall at the largest number of pairs, the place of the cliff over d_state, and the controls."""
    chance = chance_level(records)
    longest = records["num_pairs"].max()
    found = {
        f"recall_{name}_max_pairs": _recall(records, architecture, longest)
        for name, architecture in (
            ("mamba2", "mamba2"),
            ("attention", "attention"),
            ("attention_conv", "attention_conv"),
            ("hybrid", "mamba2_attention"),
            ("hybrid_reversed", "attention_mamba2"),
            ("sliding_window", "sliding_window"),
        )
    }
    capacity = capacity_interval(list(capacities(records, chance, architecture="mamba2").values()))
    d_state = pick(records, "d_state", architecture="mamba2")["value"]
    found["capacity_mamba2"] = capacity
    found["cliff_ratio_mamba2"] = capacity.scaled(1 / d_state.iloc[0]) if len(d_state) else Estimate.missing()
    hybrid, pure = (_by_seed(records, name, longest) for name in ("mamba2_attention", "mamba2"))
    found["hybrid_gain"] = difference_interval(hybrid, pure) if len(hybrid) and len(pure) else Estimate.missing()
    shortest = records["num_pairs"].min()
    for control in ("wrong", "shuffled", "zero"):
        scores = pick(records, "accuracy", control=control, num_pairs=shortest).groupby("seed")["value"].mean()
        found[f"control_{control}"] = mean_interval(scores)
    found["chance"] = Estimate(chance, chance, chance)
    found["n_runs"] = run_count(records)
    return found


def figure(records: pd.DataFrame) -> Figure:
    """Recall against the number of pairs; the dashed line is chance."""
    own = pick(records, "accuracy", control="own")
    pairs = sorted(own["num_pairs"].unique())
    fig = style.figure(columns=1, height=2.6)
    ax = fig.subplots()
    for architecture, label in _architectures(own):
        curve = [_recall(records, architecture, n) for n in pairs]
        plots.curve_with_interval(ax, pairs, curve, label, architecture)
    plots.reference_line(ax, chance_level(records), "chance")
    plots.log2_axis(ax, pairs, "key-value pairs")
    ax.set_ylabel("recall")
    ax.set_ylim(0, 1.03)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def table(records: pd.DataFrame) -> Table:
    """Recall by pairs, capacity and the bytes of state the model really holds, a row an architecture."""
    chance = chance_level(records)
    own = pick(records, "accuracy", control="own")
    pairs = sorted(own["num_pairs"].unique())
    rows: list[list[Cell]] = []
    for architecture, label in _architectures(own):
        curve = [_recall(records, architecture, n) for n in pairs]
        held = pick(records, "state_bytes", architecture=architecture)["value"]
        capacity = capacity_interval(list(capacities(records, chance, architecture=architecture).values()))
        rows.append([label, *curve, capacity, int(held.iloc[0])])
    return Table(
        header=["architecture", *(f"{int(n)} pairs" for n in pairs), "capacity (pairs)", "state (bytes)"],
        rows=rows,
        caption="Recall on MQAR by number of key-value pairs, mean over seeds with its 95 % interval. Capacity is the "
        "number of pairs at half recall; state is what one sequence of the longest row holds, counted on the tensors.",
        label="mqar_cliff",
    )


def _architectures(own: pd.DataFrame) -> list[tuple[str, str]]:
    """Architectures of the records in the order of the legend; new ones come last under their own names."""
    present = list(own["architecture"].unique())
    known = [name for name in LABELS if name in present]
    return [(name, LABELS.get(name, name)) for name in [*known, *sorted(set(present) - set(known))]]


def _recall(records: pd.DataFrame, architecture: str, num_pairs: float) -> Estimate:
    return mean_interval(_by_seed(records, architecture, num_pairs))


def _by_seed(records: pd.DataFrame, architecture: str, num_pairs: float) -> pd.Series:
    return by_seed(records, "accuracy", architecture=architecture, control="own", num_pairs=num_pairs)
