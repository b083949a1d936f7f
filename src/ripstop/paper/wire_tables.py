"""Tables of wires: arms beside texts, gains over what could stand in their place, bytes, readers, and other questions."""

from __future__ import annotations

from ripstop.paper import wires
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Cell, Table
from ripstop.paper.wires import BOTH, CODINGS, FIRST, FORMATS, HEADLINE, LABELS, NARROW, READERS, TEXT, TEXTS, Asked
from ripstop.statistics import Estimate

SCORES = {"answer_nll": "loss (nats)", "first_accuracy": "first token", "exact_match": "EM", "f1": "F1"}
OVER = {
    "over_zero": "a wire of zeros",
    "over_random": "a random wire of equal norm",
    "over_constant": "a learned constant wire",
    "over_closed": "closed book",
    "over_cut": "the first M tokens of the text",
    "over_cut_outside": "the same, where the answer lies beyond them",
    "over_equal_bytes": "the text of as many bytes (wire in int4)",
    "over_text": "the full text",
    "beside_gains": "the full text (with it beside the wire)",
}
WIDEST = "intervals are over documents, the widest of the seeds"


def arms(records: StudyRecords) -> Table:
    """Every compressor, and every variant, with the headline's M, and the texts."""
    m = wires.headline(records)
    rows: list[list[Cell]] = []
    variants = [str(name) for name in records.values("compressor") if name not in (*LABELS, TEXT)]
    for name, label in [*LABELS.items(), *((name, name.replace("_", " ")) for name in variants)]:
        if not records.is_dropped("compressor", name):
            costs: Cell = "-" if name == "constant" else wires.gain(records, Asked(name, m), "wrong")
            rows.append([label, *_scores(records, Asked(name, m)), costs])
    rows += [[label, *_scores(records, Asked(TEXT, m, BOTH), prompt), "-"] for prompt, label in TEXTS.items()]
    return Table(
        header=["context", *SCORES.values(), "another's costs"],
        rows=rows,
        caption=f"Answers of the first frozen model after {m} vectors, and after the text: loss per token of the gold answer, "
        "whether its first token is the likeliest, exact match and F1 of what is written, mean over seeds with its 95 % "
        f"interval; and what another document's wire costs in loss, whose {WIDEST}.",
    )


def gains(records: StudyRecords) -> Table:
    """What the headline's arms gain over everything."""
    m = wires.headline(records)
    found = {name: wires.compared(records, Asked(name, m)) for name in HEADLINE}
    wrong: list[Cell] = [wires.gain(records, Asked(name, m), "wrong") for name in HEADLINE]
    rows: list[list[Cell]] = [["another document's wire", *wrong]]
    rows += [[label, *(found[name][what] for name in HEADLINE)] for what, label in OVER.items()]
    return Table(
        header=["in place of", *HEADLINE.values()],
        rows=rows,
        caption=f"What {m} vectors gain in loss over what could stand in their place, in nats per token of the answer, first "
        f"frozen model; positive: the wire is better. Mean over seeds; {WIDEST}.",
    )


def sizes(records: StudyRecords) -> Table:
    """Bytes of a context, in each format and coding, with the loss that is paid for it."""
    m = wires.headline(records)
    text = Asked(TEXT, m, BOTH)
    rows: list[list[Cell]] = []
    for bits in FORMATS:
        size = wires.bytes_each(records, coding=bits, **Asked(next(iter(HEADLINE)), m).factors)
        rows.append([f"wire, {bits}", _whole(size), *(wires.loss(records, Asked(name, m), format=bits) for name in HEADLINE)])
    for bits in FORMATS:
        narrow = Asked(NARROW, m)
        size = wires.bytes_each(records, coding=bits, **narrow.factors)
        rows.append([f"narrow wire, {bits}", _whole(size), wires.loss(records, narrow, format=bits), "-"])
    for coding in CODINGS:
        coded = wires.bytes_each(records, "coded_bytes", coding=coding, **text.by(FIRST))
        rows.append([f"full text, {coding}", _whole(coded), *[wires.loss(records, text, "text")] * len(HEADLINE)])
    return Table(
        header=["context", "bytes", *(f"loss, {label}" for label in HEADLINE.values())],
        rows=rows,
        caption=f"Bytes of {m} vectors, scales included, and of the text, a mean over documents (of the text: those that were "
        "coded; arithmetic coding is under the frozen model itself), with the loss per token of the answer after each.",
    )


def readers(records: StudyRecords) -> Table:
    """One wire for two models beside one for each."""
    m = wires.headline(records)
    rows: list[list[Cell]] = []
    for reader in READERS:
        text = Asked(TEXT, m, BOTH)
        for label, arm in (("of its own", Asked("pointer", m, reader)), ("for both", Asked("pointer", m, BOTH))):
            found: list[Cell] = [*_scores(records, arm, "own", reader), wires.gain(records, arm, "wrong", reader)]
            rows.append([reader, f"a wire {label}", *found])
        rows += [[reader, label, *_scores(records, text, prompt, reader), "-"] for prompt, label in TEXTS.items()]
    return Table(
        header=["model", "context", *SCORES.values(), "another's costs"],
        rows=rows,
        caption="One wire (the pointer's) that two frozen models read, beside a wire of its own for each, and the texts; "
        "columns as in the table of all arms.",
    )


def sources(records: StudyRecords) -> Table:
    """The headline and the texts by where the questions come from, and by their group."""
    m = wires.headline(records)
    rows: list[list[Cell]] = []
    for source in map(str, records.values("source")):
        told = {
            "the full text": (Asked(TEXT, m, BOTH, source), "text"),
            "closed book": (Asked(TEXT, m, BOTH, source), "closed"),
        }
        told |= {label: (Asked(name, m, FIRST, source), "own") for name, label in HEADLINE.items()}
        for group in _groups(records, source):
            for label, (arm, prompt) in told.items():
                scores = [wires.score(records, metric, arm, prompt, questions=group) for metric in SCORES]
                rows.append([f"{source}, {group.removeprefix('group:')}", label, *scores])
    return Table(
        header=["questions", "context", *SCORES.values()],
        rows=rows,
        caption="Scores of the first frozen model by source of the questions, by whether the answer lies inside or outside the "
        "first M tokens of its text, M being the vectors of a wire, and by kind of question; mean over seeds.",
    )


def _groups(records: StudyRecords, source: str) -> list[str]:
    """All questions, those whose answers lie inside and outside the first M tokens, and each group."""
    rows = records.pick("answer_nll", source=source, compressor=TEXT, prompt="text")
    found = [str(name) for name in rows["questions"].unique()]
    order = ["all", "inside", "outside"]
    return [*(name for name in order if name in found), *sorted(name for name in found if name not in order)]


def _scores(records: StudyRecords, arm: Asked, prompt: str = "own", reader: str = FIRST) -> list[Cell]:
    return [wires.score(records, metric, arm, prompt, reader) for metric in SCORES]


def _whole(estimate: Estimate) -> Cell:
    return None if estimate.n == 0 else round(estimate.value)
