"""hybrid_ratio in the paper: loss and translation quality against the share of attention layers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.config import ConfigError
from ripstop.paper import plots, style
from ripstop.paper.select import StudyRecords, worst_minus_best
from ripstop.paper.tables import Cell, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval

LABELS = {"0": "none", "all": "all"}
SPLIT = "test"
"""Of the losses: what was chosen by is not what is printed."""
COMPARED = "none"
"""The factor `ablation` of the arms whose ratios are compared."""

ARMS = {"ratio": tuple(LABELS)}
PARTS = {"bleu": "translation", "chrf++": "translation", "parameters": "translation", "comet": "comet"}
NUMBERS = (
    "loss_mamba2",
    "loss_attention",
    "loss_best_hybrid",
    "hybrid_gain",
    "hybrid_gain_over_attention",
    "ratio_spread",
    "source_use",
    "order_use",
    "bleu_best",
    "chrf_best",
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Losses of the pure models and of the best hybrid, the spread among hybrids, quality, and use of the source.

    hybrid_gain: loss of pure Mamba-2 minus that of the best hybrid (_over_attention: of pure attention minus it).
    ratio_spread: loss of the worst hybrid minus that of the best, seed by seed.
    source_use, order_use: loss with another source, or a shuffled one, minus that with the own; averaged over ratios.
    """
    records = records.only(ablation=COMPARED)
    hybrids = [_loss(records, ratio) for ratio in _hybrids(records)]
    best = min(hybrids, key=lambda losses: losses.mean(), default=None)
    mamba2, attention = _loss(records, "0"), _loss(records, "all")
    own, wrong, shuffled = (
        records.mean_by_seed("loss", control=control, split=SPLIT) for control in ("own", "wrong", "shuffled")
    )
    return {
        "loss_mamba2": mean_interval(mamba2, "nats"),
        "loss_attention": mean_interval(attention, "nats"),
        "loss_best_hybrid": Estimate.missing("nats") if best is None else mean_interval(best, "nats"),
        "hybrid_gain": _gain(mamba2, best),
        "hybrid_gain_over_attention": _gain(attention, best),
        "ratio_spread": mean_interval(worst_minus_best(hybrids), "nats") if hybrids else Estimate.missing("nats"),
        "source_use": difference_interval(wrong, own, "nats"),
        "order_use": difference_interval(shuffled, own, "nats"),
        "bleu_best": _highest(records, "bleu"),
        "chrf_best": _highest(records, "chrf++"),
        "n_runs": records.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Left: loss per target token by ratio, with the own source and under the controls. Right: chrF++."""
    records = records.only(ablation=COMPARED)
    ratios = list(_shares(records))
    at = range(len(ratios))
    fig = style.figure(columns=2, height=2.3)
    left, right = fig.subplots(1, 2)
    for control, look in zip(("own", "shuffled", "wrong"), style.ordered(3), strict=True):
        losses = [records.mean("loss", ratio=ratio, control=control, split=SPLIT) for ratio in ratios]
        plots.curve_with_interval(left, at, losses, f"{control} source", look)
    quality = [records.mean("chrf++", ratio=ratio) for ratio in ratios]
    plots.curve_with_interval(right, at, quality, "", style.looks(["hybrid"])["hybrid"])
    for ax, label in ((left, "test loss (nats per token)"), (right, "chrF++")):
        ax.set_xticks(at, [_label(ratio) for ratio in ratios])
        ax.set_xlabel("attention : Mamba-2 layers")
        ax.set_ylabel(label)
    left.legend()
    return {"hybrid_ratio": fig}


def tables(records: StudyRecords) -> dict[str, Table]:
    """Loss, BLEU, chrF++ and COMET of every ratio, with what the wrong source costs."""
    records = records.only(ablation=COMPARED)
    rows: list[list[Cell]] = []
    for ratio in _shares(records):
        own, wrong = (records.by_seed("loss", ratio=ratio, control=control, split=SPLIT) for control in ("own", "wrong"))
        size = records.constant("parameters", ratio=ratio)
        quality = [records.mean(metric, ratio=ratio) for metric in ("bleu", "chrf++", "comet")]
        costs = difference_interval(wrong, own, "nats")
        rows.append([_label(ratio), None if size is None else int(size), mean_interval(own, "nats"), costs, *quality])
    return {
        "hybrid_ratio": Table(
            header=["ratio", "parameters", "loss (nats)", "wrong source costs", "BLEU", "chrF++", "COMET"],
            rows=rows,
            caption="Document translation En-De by the decoder's ratio of attention to Mamba-2 layers, on whole held-out "
            "books: loss per target token, what another window's source costs, and corpus quality, mean over seeds with "
            "its 95 % interval.",
        )
    }


def _shares(records: StudyRecords) -> dict[str, float]:
    """Ratio -> share of attention layers, from none to all."""
    found = {str(ratio): records.factor("attention_share", ratio=ratio) or 0.0 for ratio in records.values("ratio")}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _hybrids(records: StudyRecords) -> list[str]:
    """The ratios that mix both kinds of layer."""
    found = [ratio for ratio, share in _shares(records).items() if 0 < share < 1]
    if not found and not any(factor == "ratio" for factor, _ in records.dropped):
        raise ConfigError("hybrid_ratio: no ratio has attention and Mamba-2 layers; name one in the study's `patterns`")
    return found


def _label(ratio: str) -> str:
    return LABELS.get(ratio, ratio.replace("_", ":"))


def _loss(records: StudyRecords, ratio: str) -> pd.Series:
    return records.by_seed("loss", ratio=ratio, control="own", split=SPLIT)


def _gain(pure: pd.Series, best: pd.Series | None) -> Estimate:
    return Estimate.missing("nats") if best is None or pure.empty else difference_interval(pure, best, "nats")


def _highest(records: StudyRecords, metric: str) -> Estimate:
    """Of the ratio with the best mean. Picked on the scores it is reported with: an upper reading."""
    found = [records.mean(metric, ratio=ratio) for ratio in records.values("ratio")]
    return max(found, key=lambda estimate: estimate.value)
