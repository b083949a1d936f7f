"""Questions that were asked: a row for each question and way of asking it, kept as a file, and the measures over rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.evaluation.document_bootstrap import loss_difference
from ripstop.files import read_text, write_text
from ripstop.records import Measurement, Scalar

ANSWERS = "answers.jsonl"
PLACES = ("all", "inside", "outside")
AS_COMPUTED = "none"
"""The `format` of a wire that was not packed, and of a prompt without one."""


@dataclass(frozen=True)
class Answered:
    """One question, asked in one way.

    question, document: their ids; group: the question's kind; place: whether the answer lies `inside` the first tokens of the
        document, as many as the wire has vectors, or `outside`.
    reader: the frozen model; prompt: what it was given; format: how the wire was packed.
    nats, tokens: loss of the gold answer, teacher-forced, and what it is the sum over; first, all: whether its first token was
        the likeliest, and whether every one was.
    written: by greedy decoding, None where nothing was written; exact_match, f1: of that.
    """

    question: str
    document: str
    group: str
    place: str
    reader: str
    prompt: str
    format: str
    gold: str
    nats: float
    tokens: int
    first: bool
    all: bool
    written: str | None = None
    exact_match: float | None = None
    f1: float | None = None

    @property
    def way(self) -> dict[str, Scalar]:
        """How it was asked, as records tell it."""
        return {"reader": self.reader, "prompt": self.prompt, "format": self.format}


def write_answers(folder: Path, rows: Sequence[Answered]) -> None:
    """The file `ANSWERS`: a JSON line each."""
    write_text(folder / ANSWERS, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows))


def read_answers(folder: Path) -> list[Answered]:
    """What `write_answers` wrote; `ConfigError` where it is something else."""
    path = folder / ANSWERS
    try:
        return [Answered(**json.loads(line)) for line in read_text(path).split("\n") if line]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: holds no answers ({error}); evaluate this part of its run again") from None


def asked(rows: Sequence[Answered], prompt: str, reader: str, format_: str = AS_COMPUTED) -> list[Answered]:
    """The rows of one way of asking, in the order of their questions."""
    found = [row for row in rows if (row.prompt, row.reader, row.format) == (prompt, reader, format_)]
    return sorted(found, key=lambda row: row.question)


def readers(rows: Sequence[Answered]) -> list[str]:
    """The frozen models that were asked, in their order."""
    return list(dict.fromkeys(row.reader for row in rows))


def measured(rows: Sequence[Answered]) -> Iterator[Measurement]:
    """Every measure of every way of asking, over all questions, by place of the answer and by group."""
    ways: dict[tuple[str, str, str], list[Answered]] = {}
    for row in rows:
        ways.setdefault((row.reader, row.prompt, row.format), []).append(row)
    for those in ways.values():
        subsets = {"all": those}
        for row in those:
            subsets.setdefault(row.place, []).append(row)
            subsets.setdefault(f"group:{row.group}", []).append(row)
        for name, members in subsets.items():
            yield from _measures(members, {**those[0].way, "questions": name})


def _measures(rows: Sequence[Answered], where: dict[str, Scalar]) -> Iterator[Measurement]:
    """The loss is a mean over tokens; all else over questions."""
    n = len(rows)
    yield Measurement("answer_nll", sum(row.nats for row in rows) / sum(row.tokens for row in rows), "nats", n, where)
    yield Measurement("first_accuracy", sum(row.first for row in rows) / n, "fraction", n, where)
    yield Measurement("forced_match", sum(row.all for row in rows) / n, "fraction", n, where)
    written = [row for row in rows if row.exact_match is not None and row.f1 is not None]
    if len(written) == n:
        yield Measurement("exact_match", sum(row.exact_match or 0.0 for row in rows) / n, "fraction", n, where)
        yield Measurement("f1", min(1.0, sum(row.f1 or 0.0 for row in rows) / n), "fraction", n, where)


def gain(rows: Sequence[Answered], others: Sequence[Answered], n_bootstrap: int, **way: Scalar) -> Iterator[Measurement]:
    """`loss_gain`: the loss per token of `others` minus that of `rows`, positive where the latter are better, over all
    questions and by place of the answer, with intervals over documents.

    The slice tells how the rows were asked, and `over` the prompt of the others; `way` goes over both.
    """
    other = paired(rows, others)
    for name in PLACES:
        at = [(a, b) for a, b in zip(rows, other, strict=True) if name in ("all", a.place)]
        if at:
            nats, worse = [a.nats for a, _ in at], [b.nats for _, b in at]
            documents, tokens = [a.document for a, _ in at], [a.tokens for a, _ in at]
            where: dict[str, Scalar] = {**at[0][0].way, "over": at[0][1].prompt, **way, "questions": name}
            found = loss_difference(documents, tokens, nats, worse, n_bootstrap)
            yield from found.measurements("loss_gain", "signed nats", where)


def paired(rows: Sequence[Answered], others: Sequence[Answered]) -> list[Answered]:
    """Of `others` the same questions as of `rows`, in their order; `ConfigError` where one was not asked."""
    found = {row.question: row for row in others}
    for row in rows:
        if row.question not in found:
            raise ConfigError(
                f"question {row.question} was asked with {row.prompt}, and not with what that is compared with; ask the same "
                "questions in every part and run"
            )
    return [found[row.question] for row in rows]
