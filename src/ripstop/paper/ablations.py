"""Ablations of a translator: what each change of one thing costs, beside the arm that changes nothing."""

from __future__ import annotations

import pandas as pd

from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Paragraph, Table
from ripstop.statistics import Estimate, difference_interval, mean_interval

FACTOR, BASE, LONGER = "ablation", "unchanged", "trained_longer"
LABELS = {
    BASE: "nothing",
    "start_plain": "no start: weights as drawn",
    "start_lookup": "cross-attention starts as a lookup, token vectors as drawn",
    "encoder_unidirectional": "encoder reads one way",
    "decoder_mamba3": "Mamba-3 in the decoder, in place of Mamba-2",
    "decoder_gated_delta": "Gated DeltaNet in the decoder",
    "decoder_kda": "Kimi Delta Attention in the decoder",
    "cross_attention_first": "source read at the first layer alone",
    "cross_attention_alternate": "source read at every other layer",
    "sentences": "single pieces, none joined",
    "cat_random": "random pieces joined",
    "long_windows": "longer windows in the last quarter",
    LONGER: "trained longer",
}
OF_LOSS = tuple(name for name in LABELS if name not in (BASE, "long_windows"))
"""What costs loss on the windows that all train on."""


def printed_of(arm: str) -> list[str]:
    """The parts of the evaluation whose records of an arm are printed."""
    of_windows = ["long_windows"] if arm in (BASE, "long_windows") else []
    of_texts = ["translation", "samples"] if arm == LONGER else []
    return ["likelihood", *of_windows, *of_texts, *(["overlap"] if arm == BASE else [])]


def _loss(records: StudyRecords, arm: str, control: str = "own") -> pd.Series:
    return records.by_seed("loss", control=control, split="test", **{FACTOR: arm})


def _long_loss(records: StudyRecords, arm: str) -> pd.Series:
    return records.by_seed("long_window_loss", control="own", **{FACTOR: arm})


def difference(a: pd.Series, b: pd.Series) -> Estimate:
    """a minus b over the seeds that both have: an arm may have fewer than the one beside it."""
    seeds = a.index.intersection(b.index)
    return difference_interval(a[seeds], b[seeds], "nats") if len(seeds) else Estimate.missing("nats")


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    """ablation_...: loss (nats per target token) of the changed arm minus that of the unchanged one, seed by seed.

    ablation_long_windows: on the long windows of the test split. ablation_base: loss of the unchanged arm. longer_...: of the
    arm that trains longer its steps, what the wrong source costs, and the scores of its translations.
    """
    base = _loss(records, BASE)
    return {
        "ablation_base": mean_interval(base, "nats"),
        **{f"ablation_{name}": difference(_loss(records, name), base) for name in OF_LOSS},
        "ablation_long_windows": difference(_long_loss(records, "long_windows"), _long_loss(records, BASE)),
        "longer_steps": _steps(records),
        "longer_source_use": difference_interval(_loss(records, LONGER, "wrong"), _loss(records, LONGER), "nats"),
        **{name: records.mean(metric, **{FACTOR: LONGER}) for name, metric in LONGER_SCORES.items()},
    }


LONGER_SCORES = {"longer_bleu": "bleu", "longer_chrf": "chrf++"}
NUMBERS = (
    "ablation_base",
    *(f"ablation_{name}" for name in OF_LOSS),
    "ablation_long_windows",
    "longer_steps",
    "longer_source_use",
    *LONGER_SCORES,
)


def table(records: StudyRecords) -> Table:
    """A row for each change."""
    rows: list[list[Cell]] = []
    base, base_long = _loss(records, BASE), _long_loss(records, BASE)
    for name, label in LABELS.items():
        if records.is_dropped(FACTOR, name):
            continue
        own, wrong = _loss(records, name), _loss(records, name, "wrong")
        has_long = not records.pick_any("long_window_loss", **{FACTOR: name}).empty
        long = _long_loss(records, name) if has_long else None
        rows.append([
            label, len(own), mean_interval(own, "nats"),
            "" if name == BASE else difference(own, base),
            difference_interval(wrong, own, "nats"),
            "not measured" if long is None else mean_interval(long, "nats") if name == BASE else difference(long, base_long),
        ])  # fmt: skip
    return Table(
        header=["changed", "seeds", "loss (nats)", "minus unchanged", "wrong source costs", "long windows"],
        rows=rows,
        caption="Ablations of a translator with one attention layer to three of Mamba-2, at fewer steps than the ratios have: "
        "loss per target token on the held-out books, what the change adds to it, seed by seed where both have the seed, what "
        "another window's source costs, and the loss on windows three times as long, or what the change adds to that.",
    )


def samples(records: StudyRecords) -> Table:
    """Sentences of held-out books, what was made of them, and what a human wrote; a row each, in the order of the books."""
    found = records.pick_any("sample_chrf++", **{FACTOR: LONGER})
    first = found if found.empty else found[found["seed"] == found["seed"].min()].sort_values("sample")
    return Table(
        header=["from", "source", "translated", "reference", "chrF++"],
        rows=[
            [row["document"], *(Paragraph(row[side]) for side in ("source", "hypothesis", "reference")), float(row["value"])]
            for _, row in first.iterrows()
        ],
        caption="Translations by the arm that trains longer, of its first seed: windows of the held-out books at equal "
        "distances, picked by place alone.",
    )


def _steps(records: StudyRecords) -> Estimate:
    steps = records.factor("steps", **{FACTOR: LONGER})
    return Estimate.missing("steps") if steps is None else Estimate.exact(steps, 1, "steps")
