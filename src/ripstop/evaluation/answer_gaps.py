"""What a wire gains over everything that it is compared with, question by question: differences of losses, and parts of gaps.

It reads the answers that other parts left, of this run and of the runs that it is compared with, and resamples documents.
Whether a model uses its wire is the difference between another document's wire and the own one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ripstop.config import NAME, ArmName, ConfigError, nearest
from ripstop.evaluation.answered import Answered, asked, gain, paired, read_answers, readers
from ripstop.evaluation.asking import check_asked
from ripstop.evaluation.base import Subject
from ripstop.evaluation.derived import DerivedConfig, left_at, place
from ripstop.evaluation.document_bootstrap import gap_closed
from ripstop.models.soft_prompt import SoftPromptConfig
from ripstop.records import Measurement
from ripstop.wire.quantize import BITS_EACH, n_bytes

if TYPE_CHECKING:
    from ripstop.runs import Run

CONTROLS = ("wrong", "shuffled", "zero", "random")
TEXTS = ("closed", "cut_tokens", "text")
PACKED = ("formats", "cut_bytes")
BESIDE, CONSTANT = "beside", "constant"
FLOORS = ("zero", "random", CONSTANT)


class AnswerGapsConfig(DerivedConfig):
    """What is compared, and where the answers lie.

    over: differences of the loss per token, positive where this run's wire is better. Of a control, a text arm (`closed`,
        `cut_tokens`, `text`), or the own wire of one of `runs`, minus the own wire; `formats`: of the packed wire minus the
        own; `cut_bytes`: of the text of as many bytes, where it was cut to them, minus the packed wire; `beside`: of the text
        minus the text beside its wire.
    gaps: parts of the way from the best floor (a zero, a random wire, and that of `runs.constant`) to these.
    own: the parts of this run that asked questions; their part `answers` is that of `runs` too.
    text, runs: other runs, named as their folders are, with this run's factors, `seed` and `reader` in braces where they vary
        (`compressor-text_n_vectors-{n_vectors}_seed-0`). text: the one without a wire, and text_parts, its parts. What a run
        has not asked of a frozen model is left out for it.
    """

    kind: Literal["answer_gaps"] = "answer_gaps"
    over: list[str] = Field(min_length=1)
    gaps: list[Literal["text", "ceiling"]] = []
    own: list[str] = Field(["answers"], min_length=1)
    answers: str = Field("answers", pattern=rf"^{NAME.pattern}$")
    text: str | None = None
    text_parts: list[str] = ["text"]
    runs: dict[ArmName, str] = {}
    n_bootstrap: int = Field(2000, ge=1, description="resamples of documents")

    def check(self, run: Run) -> None:
        check_asked(run)
        known = [*CONTROLS, *TEXTS, *PACKED, BESIDE, *self.runs]
        for name in self.over:
            if name not in known:
                raise ConfigError(f"over: {name!r} is nothing to compare with{nearest(name, known)}")
        texts = [name for name in (*TEXTS, "cut_bytes", BESIDE) if name in self.over] + self.gaps
        if texts and self.text is None:
            raise ConfigError(f"text: is not given, and {texts[0]} is one of its arms; name the run that has it")
        self.reads(run)

    def reads(self, run: Run) -> list[str]:
        others = [where for name, where in self._others(run)]
        return list(dict.fromkeys([*(place(run, part) for part in self.own), *others]))

    def _others(self, run: Run) -> list[tuple[str, str]]:
        """Name in `over`, "" for the text arms, and where the answers lie."""
        found = []
        if self.text is not None:
            found += [("", f"{self._named(self.text, run)}/parts/{part}") for part in self.text_parts]
        for name, template in self.runs.items():
            named = {self._named(template, run, reader) for reader in check_asked(run).frozen}
            found += [(name, f"{one}/parts/{self.answers}") for one in sorted(named) if one != run.name]
        return found

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        run, model = subject.run, check_asked(subject.run)
        own = [row for part in self.own for row in read_answers(left_at(subject, place(run, part)))]
        others: list[Answered] = []
        for name, where in self._others(run):
            rows = read_answers(left_at(subject, where))
            others += rows if not name else [replace(row, prompt=name) for row in rows if row.prompt == "own"]
        for reader in readers(own):
            for over in self.over:
                for mine, theirs, told in self._pairs(model, own, others, reader, over):
                    if theirs or over not in self.runs:
                        yield from gain(mine, theirs, self.n_bootstrap, over=told)
            for gap in self.gaps:
                yield from self._gap(own, others, reader, gap)

    def _pairs(
        self, model: SoftPromptConfig, own: list[Answered], others: list[Answered], reader: str, over: str
    ) -> Iterator[tuple[list[Answered], list[Answered], str]]:
        """The rows of this run's wire, those that they are compared with, and what these are called."""
        mine = asked(own, "own", reader)
        packed = [bits for bits in BITS_EACH if any((row.reader, row.format) == (reader, bits) for row in own)]
        if over == "formats":
            yield from ((mine, asked(own, "own", reader, bits), bits) for bits in packed)
        elif over == "cut_bytes":
            sizes = {bits: str(n_bytes(model.wire_format(bits))) for bits in packed}
            cut = {bits: rows for bits, size in sizes.items() if (rows := asked(others, over, reader, size))}
            if not cut:
                raise ConfigError(
                    f"over: the text was cut to none of {', '.join(sizes.values()) or 'no'} bytes; add these to `sizes` of the "
                    "part that asks after it"
                )
            yield from ((asked(own, "own", reader, bits), rows, over) for bits, rows in cut.items())
        elif over == BESIDE:
            yield asked(own, BESIDE, reader), asked(others, "text", reader), "text"
        else:
            yield mine, asked(own if over in CONTROLS else others, over, reader), over

    def _gap(self, own: list[Answered], others: list[Answered], reader: str, to: str) -> Iterator[Measurement]:
        """Over the questions that were asked at its end: of the ceiling, those that it was found for."""
        end = asked(others, to, reader)
        if not end:
            return
        floors = [(name, asked(others if name == CONSTANT else own, name, reader)) for name in FLOORS]
        there = [paired(end, rows) for _, rows in floors if rows]
        if not there:
            raise ConfigError(
                f"gaps: there is no floor, none of {', '.join(FLOORS)} was asked of {reader}; ask with one of them"
            )
        mine = paired(end, asked(own, "own", reader))
        documents = [row.document for row in end]
        found = gap_closed(documents, _nats(mine), [_nats(floor) for floor in there], _nats(end), self.n_bootstrap)
        yield from found.measurements("gap_closed", "share", {"reader": reader, "to": to})

    def _named(self, template: str, run: Run, reader: str = "") -> str:
        known = {**run.factors, "seed": run.seed, "reader": reader}
        try:
            return template.format(**known)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(f"{template!r} names no run ({error}); braces hold one of {', '.join(known)}") from None


def _nats(rows: Sequence[Answered]) -> list[float]:
    return [row.nats for row in rows]
