"""blind_start in the paper: recall by where the decoder sees its source."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper.select import by_seed, chance_level, pick, run_count
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval


def numbers(records: pd.DataFrame) -> dict[str, Estimate]:
    """Recall at the largest number of pairs for each kind of position, and layer 0 against the other single ones.

    All after the longest training, but `layer0_minus_other_short`: what the shortest would have said.
    """
    everything, records = records, _trained_longest(records)
    longest = records["num_pairs"].max()
    scores = {name: _scores(records, name, longest) for name in _positions(records)}
    singles = sorted((name for name in scores if name.startswith("layer_")), key=lambda name: int(name[6:]))
    pairs = [name for name in scores if name.startswith("layers_")]
    others = [name for name in singles if name != "layer_0"]
    missing = Estimate.missing()
    found = {
        "recall_layer0": mean_interval(scores["layer_0"]) if "layer_0" in scores else missing,
        "recall_last": mean_interval(scores[singles[-1]]) if singles else missing,
        "recall_best_single": _best(scores, singles),
        "recall_best_pair": _best(scores, pairs),
        "recall_adaptive": mean_interval(scores["adaptive"]) if "adaptive" in scores else missing,
        "recall_none": mean_interval(scores["none"]) if "none" in scores else missing,
        "recall_none_mean": mean_interval(scores["none_mean"]) if "none_mean" in scores else missing,
        "layer0_minus_other": missing,
        "layer0_minus_other_short": missing,
        "chance": Estimate(chance := chance_level(records), chance, chance),
        "n_runs": run_count(everything),
    }
    if "layer_0" in scores and others:
        short = everything[everything["steps"] == everything["steps"].min()]
        found["layer0_minus_other"] = _layer0_minus_other(records, others, longest)
        found["layer0_minus_other_short"] = _layer0_minus_other(short, others, longest)
    seeing = records[~records["positions"].isin(["none", "none_mean"])]
    for control in ("wrong", "shuffled", "zero"):
        rows = pick(seeing, "accuracy", control=control, num_pairs=seeing["num_pairs"].min())
        found[f"control_{control}_source"] = mean_interval(rows.groupby("seed")["value"].mean())
    return found


def figure(records: pd.DataFrame) -> Figure:
    """Recall at the largest number of pairs, a row an arm, a panel a training length; the dashed line is chance."""
    longest = records["num_pairs"].max()
    names = _positions(records)
    lengths = sorted(records["steps"].unique())
    fig = style.figure(columns=2, height=2.4)
    for ax, steps in zip(fig.subplots(1, len(lengths), sharey=True, squeeze=False)[0], lengths, strict=True):
        trained = records[records["steps"] == steps]
        plots.forest(ax, [_label(n) for n in names], [mean_interval(_scores(trained, n, longest)) for n in names])
        plots.reference_line(ax, chance_level(records), "chance", "x")
        ax.set_title(f"{steps:g} steps")
        ax.set_xlabel(f"recall at {longest:g} pairs")
        ax.set_xlim(-0.03, 1.03)
    return fig


def table(records: pd.DataFrame) -> Table:
    """Recall by number of pairs after the longest training, a row an arm."""
    records = _trained_longest(records)
    pairs = sorted(records["num_pairs"].dropna().unique())
    rows: list[list[Cell]] = [
        [_label(name), *(mean_interval(_scores(records, name, n)) for n in pairs)] for name in _positions(records)
    ]
    return Table(
        header=["cross-attention", *(f"{int(n)} pairs" for n in pairs)],
        rows=rows,
        caption="Recall on sequence-to-sequence MQAR by the decoder layers that attend to the source, after the longest "
        "training, mean over seeds with its 95 % interval.",
        label="blind_start",
    )


def _trained_longest(records: pd.DataFrame) -> pd.DataFrame:
    return records[records["steps"] == records["steps"].max()]


def _layer0_minus_other(records: pd.DataFrame, others: list[str], num_pairs: float) -> Estimate:
    mean_other = pd.concat([_scores(records, name, num_pairs) for name in others], axis=1).mean(axis=1)
    return difference_interval(_scores(records, "layer_0", num_pairs), mean_other)


def _positions(records: pd.DataFrame) -> list[str]:
    """Arms in the order of the paper: single layers, pairs, all, adaptive, none."""
    order = ["layer_", "layers_", "all", "adaptive", "none"]
    return sorted(
        records["positions"].unique(), key=lambda name: (next(i for i, p in enumerate(order) if name.startswith(p)), name)
    )


def _label(name: str) -> str:
    known = {"all": "all layers", "adaptive": "adaptive rule", "none": "none", "none_mean": "none, source mean added"}
    return known.get(name) or name.replace("_", " ")


def _scores(records: pd.DataFrame, name: str, num_pairs: float) -> pd.Series:
    return by_seed(records, "accuracy", positions=name, control="own", num_pairs=num_pairs)


def _best(scores: dict[str, pd.Series], names: list[str]) -> Estimate:
    """The arm with the best mean. Picked on the scores it is reported with: an upper reading, not a fair estimate."""
    return mean_interval(max((scores[name] for name in names), key=lambda s: s.mean())) if names else Estimate.missing()
