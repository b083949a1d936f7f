"""Quality of translations: what differs from the baseline, and the rows of a table of quality.

The records that stand behind it, all with the arm's factors:

| metric | part | slices |
|---|---|---|
| bleu, chrf++, and each with _half_interval | translation | signature (of sacrebleu) |
| bleu_by_length, chrf++_by_length | translation | source_words: 1-15, 16-31, 32-63, 64-127, 128+ |
| length_ratio, parameters | translation | |
| bleu_p_value, chrf++_p_value | quality | against: the arm's folder name without the seed; none of an arm against itself |
| entity_recall | quality | training_occurrences: all, 0, 1-9, 10-99, 100+, those that there are |
| omission_rate, omission_alarms, over_translation_rate, over_translation_alarms | quality | of: translation, reference |
| segments | quality | |
| comet, comet_truncated, comet_valid | comet | comet_model, comet_version |
| comet_by_length, comet_identity, comet_wrong | comet | comet_model, comet_version, source_words |
| comet_not_run | comet | why; nothing else is recorded then |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ripstop.paper.by_heart import by_heart
from ripstop.paper.numbers import NOT_MEASURED
from ripstop.paper.select import PART, StudyRecords
from ripstop.paper.tables import Cell, Marked, Table
from ripstop.statistics import Estimate, by_common_seed

SIGNIFICANCE = 0.05
DAGGER = "†"
COMET = "comet"
PARTS = {
    "bleu": "translation", "chrf++": "translation", "length_ratio": "translation", "parameters": "translation",
    "bleu_by_length": "translation", "chrf++_by_length": "translation",
    "bleu_p_value": "quality", "chrf++_p_value": "quality", "entity_recall": "quality", "segments": "quality",
    "omission_rate": "quality", "omission_alarms": "quality",
    "over_translation_rate": "quality", "over_translation_alarms": "quality",
    "comet": "comet", "comet_valid": "comet",
}  # fmt: skip
"""metric -> the part that measures it, for a printer's `PARTS`."""
HEADER = ("BLEU", "chrF++", "COMET", "names recalled", "words omitted", "words added")


@dataclass(frozen=True)
class TranslatorArm:
    """A row. folder: the name of its runs' folders without the seed, as `against` of the part `quality` has it.

    where: the factors that choose its records.
    """

    label: str
    folder: str
    where: Mapping[str, object]


def differs(records: StudyRecords, metric: str, arm: TranslatorArm, baseline: TranslatorArm) -> bool:
    """Whether a paired bootstrap tells the arm from the baseline with every seed (p < 0.05), and in the same direction.

    metric: "bleu" or "chrf++". One test a seed, each on the translations of the same segments: the test set is what is
    resampled, and that it holds for every seed is asked besides.
    """
    if arm == baseline:
        return False
    p_values = records.by_seed(f"{metric}_p_value", against=baseline.folder, part="quality", **arm.where)
    if p_values.empty:
        return False
    both = by_common_seed([records.by_seed(metric, part="translation", **one.where) for one in (arm, baseline)])
    gains = both[0] - both[1]
    return bool((p_values < SIGNIFICANCE).all() and ((gains > 0).all() or (gains < 0).all()))


@by_heart
def score_cell(records: StudyRecords, metric: str, arm: TranslatorArm, baseline: TranslatorArm) -> Cell:
    """Mean over seeds with its interval, marked where it differs from the baseline."""
    score = records.mean(metric, part="translation", **arm.where)
    return Marked(score, DAGGER) if score.n and differs(records, metric, arm, baseline) else score


def comet_cell(records: StudyRecords, arm: TranslatorArm) -> Cell:
    """COMET's mean over seeds; "not run" and "invalid" where there is no number that says anything, with `comet_notes`."""
    if records.is_dropped(PART, COMET):
        return "not run"
    if not records.pick_any("comet_not_run", **arm.where).empty:
        return "not run"
    valid = records.by_seed("comet_valid", **arm.where)
    return records.mean("comet", **arm.where) if valid.all() else "invalid"


def comet_notes(records: StudyRecords, arms: Sequence[TranslatorArm]) -> list[str]:
    """Why a column of COMET says what it says: a sentence each."""
    if records.is_dropped(PART, COMET):
        return ["COMET was not run: the parameters of this scale leave it out."]
    notes = []
    for why in sorted(set(records.pick_any("comet_not_run")["why"].dropna())) if "why" in records.labels else []:
        notes.append(f"COMET was not run: {why}.")
    for arm in arms:
        if comet_cell(records, arm) == "invalid":
            notes.append(
                f"COMET of {arm.label} is invalid: a translation that equals its reference does not score highest at every "
                "length."
            )
    scored = records.pick_any("comet_truncated")
    if not scored.empty:
        models = ", ".join(sorted(set(scored["comet_model"])))
        versions = ", ".join(sorted(set(scored["comet_version"])))
        cut = int(scored["value"].sum())
        notes.append(f"COMET: {models}, unbabel-comet {versions}; {cut} segments were truncated by its encoder.")
    return notes


def quality_table(
    records: StudyRecords, arms: Sequence[TranslatorArm], baseline: TranslatorArm, caption: str, first: str = "decoder"
) -> Table:
    """A row an arm: BLEU and chrF++ marked where they differ from the baseline, COMET, recall of names, words that were
    left out and added."""
    rows = [[arm.label, *quality_cells(records, arm, baseline)] for arm in arms]
    tested = f"{DAGGER} differs from {baseline.label} with every seed: paired bootstrap over segments, p < {SIGNIFICANCE}."
    return Table([first, *HEADER], rows, caption, [tested, *reference_notes(records), *comet_notes(records, arms)])


def quality_cells(records: StudyRecords, arm: TranslatorArm, baseline: TranslatorArm) -> list[Cell]:
    """The cells under `HEADER`."""
    return [
        *(score_cell(records, metric, arm, baseline) for metric in ("bleu", "chrf++")),
        comet_cell(records, arm),
        recall_of_names(records, arm),
        *(records.mean(metric, of="translation", **arm.where) for metric in ("omission_rate", "over_translation_rate")),
    ]


def recall_of_names(records: StudyRecords, arm: TranslatorArm, training_occurrences: str = "all") -> Estimate:
    """Of names that the training data has so often; missing where the translated segments have none."""
    found = records.pick_any("entity_recall", training_occurrences=training_occurrences, **arm.where)
    if found.empty:
        return Estimate.missing("fraction")
    return records.mean("entity_recall", training_occurrences=training_occurrences, **arm.where)


def reference_notes(records: StudyRecords) -> list[str]:
    """What the same measure says of the human references, which leave out and add nothing that matters."""
    shares = []
    for metric in ("omission_rate", "over_translation_rate"):
        found = records.pick_any(metric, of="reference")["value"]
        shares.append(f"{100 * found.mean():.1f} %" if len(found) else NOT_MEASURED)
    omitted, added = shares
    return [f"Of the references the same measure finds {omitted} of the source's words omitted and {added} of theirs added."]
