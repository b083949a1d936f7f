"""hybrid_ratio in the paper: loss and translation quality against the share of attention layers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.paper import plots, style
from ripstop.paper.select import by_seed, pick, run_count
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval


def numbers(records: pd.DataFrame) -> dict[str, Estimate]:
    """Losses of the pure models and of the best hybrid, the spread among hybrids, quality, and use of the source."""
    losses = {ratio: by_seed(records, "loss", ratio=ratio, control="own") for ratio, _ in _ratios(records)}
    shares = dict(_ratios(records))
    pure_mamba = [ratio for ratio, share in shares.items() if share == 0]
    pure_attention = [ratio for ratio, share in shares.items() if share == 1]
    hybrids = [ratio for ratio, share in shares.items() if 0 < share < 1]
    missing = Estimate.missing("nats")
    best = min(hybrids, key=lambda ratio: losses[ratio].mean(), default=None)
    spread = pd.concat([losses[ratio] for ratio in hybrids], axis=1) if hybrids else None
    wrong = pick(records, "loss", control="wrong").groupby("seed")["value"].mean()
    shuffled = pick(records, "loss", control="shuffled").groupby("seed")["value"].mean()
    own = pick(records, "loss", control="own").groupby("seed")["value"].mean()
    return {
        "loss_mamba2": mean_interval(losses[pure_mamba[0]], unit="nats") if pure_mamba else missing,
        "loss_attention": mean_interval(losses[pure_attention[0]], unit="nats") if pure_attention else missing,
        "loss_best_hybrid": mean_interval(losses[best], unit="nats") if best else missing,
        "hybrid_gain": difference_interval(losses[pure_mamba[0]], losses[best], unit="nats")
        if pure_mamba and best
        else missing,
        "hybrid_gain_over_attention": difference_interval(losses[pure_attention[0]], losses[best], unit="nats")
        if pure_attention and best
        else missing,
        "ratio_spread": missing if spread is None else mean_interval(spread.max(axis=1) - spread.min(axis=1), unit="nats"),
        "source_use": difference_interval(wrong, own, unit="nats"),
        "order_use": difference_interval(shuffled, own, unit="nats"),
        "bleu_best": _best(records, "bleu"),
        "chrf_best": _best(records, "chrf++"),
        "n_runs": run_count(records),
    }


def figure(records: pd.DataFrame) -> Figure:
    """Left: loss per target token by ratio, with the own source and under the controls. Right: chrF++."""
    ratios = [ratio for ratio, _ in _ratios(records)]
    at = range(len(ratios))
    fig = style.figure(columns=2, height=2.3)
    left, right = fig.subplots(1, 2)
    for control, look in zip(("own", "shuffled", "wrong"), style.ordered(3), strict=True):
        losses = [mean_interval(by_seed(records, "loss", ratio=ratio, control=control)) for ratio in ratios]
        plots.curve_with_interval(left, at, losses, f"{control} source", look)
    plots.curve_with_interval(right, at, [mean_interval(_values(records, "chrf++", r)) for r in ratios], "", "hybrid")
    for ax, label in ((left, "test loss (nats per token)"), (right, "chrF++")):
        ax.set_xticks(at, [_label(ratio) for ratio in ratios])
        ax.set_xlabel("attention : Mamba-2 layers")
        ax.set_ylabel(label)
    left.legend()
    return fig


def table(records: pd.DataFrame) -> Table:
    """Loss, BLEU and chrF++ of every ratio, with what the wrong source costs."""
    rows: list[list[Cell]] = []
    for ratio, _ in _ratios(records):
        own = by_seed(records, "loss", ratio=ratio, control="own")
        wrong = by_seed(records, "loss", ratio=ratio, control="wrong")
        rows.append(
            [
                _label(ratio),
                int(pick(records, "parameters", ratio=ratio)["value"].iloc[0]),
                mean_interval(own),
                difference_interval(wrong, own),
                *(mean_interval(_values(records, metric, ratio)) for metric in ("bleu", "chrf++")),
                mean_interval(_values(records, "comet", ratio)),
            ]
        )
    return Table(
        header=["ratio", "parameters", "loss (nats)", "wrong source costs", "BLEU", "chrF++", "COMET"],
        rows=rows,
        caption="Document translation En-De by the decoder's ratio of attention to Mamba-2 layers, on whole held-out "
        "books: loss per target token, what another window's source costs, and corpus quality, mean over seeds with "
        "its 95 % interval.",
        label="hybrid_ratio",
    )


def _ratios(records: pd.DataFrame) -> list[tuple[str, float]]:
    """Names of the ratios with their share of attention layers, from none to all."""
    shares = records.groupby("ratio")["attention_share"].first().sort_values()
    return [(str(ratio), float(share)) for ratio, share in shares.items()]


def _label(ratio: str) -> str:
    return {"0": "none", "all": "all"}.get(ratio, ratio.replace("_", ":"))


def _values(records: pd.DataFrame, metric: str, ratio: str) -> pd.Series:
    where = {"control": "own"} if metric == "loss" else {}
    return by_seed(records, metric, ratio=ratio, **where)


def _best(records: pd.DataFrame, metric: str) -> Estimate:
    """Of the ratio with the best mean. Picked on the scores it is reported with: an upper reading."""
    means = pick(records, metric).groupby("ratio")["value"].mean()
    return mean_interval(by_seed(records, metric, ratio=means.idxmax()), unit="points") if len(means) else Estimate.missing()
