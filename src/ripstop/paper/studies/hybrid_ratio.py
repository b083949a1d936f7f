"""hybrid_ratio in the paper: loss, quality, use of context and cost against the share of attention layers; ablations."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ripstop.config import ConfigError
from ripstop.paper import ablations, contrast, plots, style, translation_costs, translations
from ripstop.paper.select import StudyRecords, worst_minus_best
from ripstop.paper.tables import Cell, Table
from ripstop.paper.translations import TranslatorArm
from ripstop.statistics import Estimate, difference_interval, mean_interval

LABELS = {"0": "none", "all": "all"}
SPLIT = "test"
"""Of the losses: what was chosen by is not what is printed."""
COMPARED = "none"
"""The factor `ablation` of the arms whose ratios are compared."""
BASELINE = f"ratio-0_ablation-{COMPARED}"
"""Pure Mamba-2, by the name of its runs' folders without the seed: quality is compared with its."""
COSTS = ("throughput", "latency", "memory")

ARMS = {"ratio": tuple(LABELS), "ablation": tuple(ablations.LABELS)}
PARTS = {
    **translations.PARTS,
    **dict.fromkeys(("context_loss", "cxmi_half_interval"), "context"),
    **dict.fromkeys(("pronoun_accuracy", "always_es_accuracy", "antecedent_in_window"), "pronouns"),
    **dict.fromkeys(translation_costs.METRICS, "cost"),
    "long_window_loss": "long_windows",
    "also_in_train": "overlap",
    "sample_chrf++": "samples",
}
QUALITY = ("bleu", "chrf", "names", "cxmi", "pronoun_gain", "pronouns_own")
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
    "names_gain",
    "also_in_train",
    "pronouns_always_es",
    *(f"{what}_{which}" for what in QUALITY for which in ("mamba2", "best_hybrid", "attention")),
    *ablations.NUMBERS,
    "n_runs",
)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """Losses of the pure models and of the best hybrid, the spread among hybrids, quality, and use of source and context.

    The best hybrid is that with the lowest mean loss, for all measures. hybrid_gain: loss of pure Mamba-2 minus that of the
    best hybrid (_over_attention: of pure attention minus it). ratio_spread: loss of the worst hybrid minus that of the best,
    seed by seed. source_use, order_use: loss with another source, or a shuffled one, minus that with the own; over all ratios.
    names_...: of the names in references the share that is written; names_gain: of the best hybrid minus that of Mamba-2.
    cxmi_...: what the context of a sentence gains in loss. pronoun_gain_...: of right pronouns whose antecedent stands in an
    earlier sentence, with the context minus without. ablation_...: see `ablations`.
    """
    whole, records = records, records.only(ablation=COMPARED)
    best = _best(records)
    own, wrong, shuffled = (
        records.mean_by_seed("loss", control=control, split=SPLIT) for control in ("own", "wrong", "shuffled")
    )
    mamba2, attention = _loss(records, "0"), _loss(records, "all")
    hybrid = None if best is None else _loss(records, best)
    hybrids = [_loss(records, ratio) for ratio in _hybrids(records)]
    names = {which: _names(records, ratio) for which, ratio in _which(best).items()}
    overlap = whole.pick("also_in_train", split=SPLIT)["value"]
    level = contrast.always_es(records, contrast.WITH_CONTEXT)
    return {
        "loss_mamba2": mean_interval(mamba2, "nats"),
        "loss_attention": mean_interval(attention, "nats"),
        "loss_best_hybrid": Estimate.missing("nats") if hybrid is None else mean_interval(hybrid, "nats"),
        "hybrid_gain": _gain(mamba2, hybrid),
        "hybrid_gain_over_attention": _gain(attention, hybrid),
        "ratio_spread": mean_interval(worst_minus_best(hybrids), "nats") if hybrids else Estimate.missing("nats"),
        "source_use": difference_interval(wrong, own, "nats"),
        "order_use": difference_interval(shuffled, own, "nats"),
        "bleu_best": _highest(records, "bleu"),
        "chrf_best": _highest(records, "chrf++"),
        "names_gain": _difference(names["best_hybrid"], names["mamba2"], "fraction"),
        "also_in_train": mean_interval(overlap.drop_duplicates(), "fraction"),
        "pronouns_always_es": Estimate.missing("fraction") if level is None else Estimate.exact(level, 1, "fraction"),
        **{f"names_{which}": mean_interval(found, "fraction") for which, found in names.items()},
        **{
            f"{what}_{which}": found
            for which, ratio in _which(best).items()
            for what, found in _measured(records, ratio).items()
        },
        **ablations.numbers(whole),
        "n_runs": whole.n_runs,
    }


def figures(records: StudyRecords) -> dict[str, Figure]:
    """Loss and chrF++ by ratio; pronouns by context; what translations cost."""
    records = records.only(ablation=COMPARED)
    arms = {_label(ratio): {"ratio": ratio} for ratio in _shares(records)}
    costs = translation_costs.figures(records, arms, LABELS["all"])
    return {
        "hybrid_ratio": _ratios(records),
        "hybrid_ratio_pronouns": contrast.figure(records, arms, {"ratio": _best(records) or "0"}),
        **{f"hybrid_ratio_{name}": costs[name] for name in COSTS},
    }


def tables(records: StudyRecords) -> dict[str, Table]:
    """Loss by ratio with what the wrong source costs; quality of the translations; ablations."""
    compared = records.only(ablation=COMPARED)
    arms = [TranslatorArm(_label(r), f"ratio-{r}_ablation-{COMPARED}", {"ratio": r}) for r in _shares(compared)]
    return {
        "hybrid_ratio": _losses(compared),
        "hybrid_ratio_quality": translations.quality_table(
            compared, arms, arms[0],
            "Quality of translations by the decoder's ratio of attention to Mamba-2 layers, over held-out books: mean over "
            "seeds with its 95 % interval. BLEU and chrF++ are of the corpus; names recalled: of the names in the references; "
            "words omitted and added: by word alignment, of the words of the source and of the translation.",
            "attention : Mamba-2",
        ),
        "hybrid_ratio_ablations": ablations.table(records),
        "hybrid_ratio_samples": ablations.samples(records),
    }  # fmt: skip


def _ratios(records: StudyRecords) -> Figure:
    """Left: loss per target token by ratio, with the own source and under the controls. Right: chrF++."""
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
    return fig


def _losses(records: StudyRecords) -> Table:
    rows: list[list[Cell]] = []
    for ratio in _shares(records):
        own, wrong = (records.by_seed("loss", ratio=ratio, control=control, split=SPLIT) for control in ("own", "wrong"))
        size = records.constant("parameters", ratio=ratio)
        gained = contrast.cxmi(records, {"ratio": ratio})
        costs = difference_interval(wrong, own, "nats")
        rows.append([_label(ratio), None if size is None else int(size), mean_interval(own, "nats"), costs, gained])
    return Table(
        header=["ratio", "parameters", "loss (nats)", "wrong source costs", "context gains"],
        rows=rows,
        caption="Document translation En-De by the decoder's ratio of attention to Mamba-2 layers, on whole held-out "
        "books: loss per target token, what another window's source costs, and what the sentences before one gain (CXMI), "
        "mean over seeds with its 95 % interval.",
    )


def _measured(records: StudyRecords, ratio: str | None) -> dict[str, Estimate]:
    """Quality and use of context of one ratio."""
    if ratio is None:
        units = {"bleu": "points", "chrf": "points", "cxmi": "nats", "pronoun_gain": "fraction", "pronouns_own": "fraction"}
        return {what: Estimate.missing(unit) for what, unit in units.items()}
    arm = {"ratio": ratio}
    return {
        "bleu": records.mean("bleu", **arm),
        "chrf": records.mean("chrf++", **arm),
        "cxmi": contrast.cxmi(records, arm),
        "pronoun_gain": contrast.pronoun_gain(records, arm),
        "pronouns_own": contrast.accuracy(records, "own", arm, contrast.WITH_CONTEXT),
    }


def _which(best: str | None) -> dict[str, str | None]:
    return {"mamba2": "0", "best_hybrid": best, "attention": "all"}


def _best(records: StudyRecords) -> str | None:
    """The hybrid with the lowest mean loss."""
    return min(_hybrids(records), key=lambda ratio: _loss(records, ratio).mean(), default=None)


def _names(records: StudyRecords, ratio: str | None) -> pd.Series:
    """Recall of names, by seed."""
    if ratio is None or records.pick("entity_recall").empty:
        return pd.Series(dtype=float)
    return records.by_seed("entity_recall", training_occurrences="all", ratio=ratio)


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
    return Estimate.missing("nats") if best is None else _difference(pure, best, "nats")


def _difference(a: pd.Series, b: pd.Series, unit: str) -> Estimate:
    return Estimate.missing(unit) if a.empty or b.empty else difference_interval(a, b, unit)


def _highest(records: StudyRecords, metric: str) -> Estimate:
    """Of the ratio with the best mean. Picked on the scores it is reported with: an upper reading."""
    found = [records.mean(metric, ratio=ratio) for ratio in records.values("ratio")]
    return max(found, key=lambda estimate: estimate.value)
