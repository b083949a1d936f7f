"""Questions asked of a trained soft prompt: with its own wires, under the controls, packed, and beside the text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ripstop.config import ConfigError
from ripstop.data.question import Question, texts
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answered import ANSWERS, AS_COMPUTED, Answered, asked, measured, readers, write_answers
from ripstop.evaluation.asking import Asking, ask, check_asked, chosen_questions
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.document_bootstrap import interval
from ripstop.evaluation.wire_controls import controlled, swapped
from ripstop.frozen.cache import KeyValues
from ripstop.models.soft_prompt import SoftPrompt
from ripstop.records import Measurement
from ripstop.wire.quantize import Bits, n_bytes, pack, unpack

if TYPE_CHECKING:
    from ripstop.runs import Run

Given = Literal["own", "wrong", "shuffled", "zero", "random", "swapped", "beside"]


class AnswersConfig(PartConfig):
    """The test questions, each asked with every one of `prompts`.

    prompts: the controls of `wire_controls`; `swapped`: the wire of a document with another's answer in the place of its own;
        `beside`: the own wire and the whole text after it.
    formats: in which the own wires are packed, sent and unpacked before they are read, beside those that are not.
    written: of the prompts, those after which answers are written too, greedily, and scored by exact match and F1; after the
        others, and after packed wires, the gold answer is teacher-forced alone.
    """

    kind: Literal["answers"] = "answers"
    prompts: list[Given] = Field(["own"])
    formats: list[Bits] = []
    written: list[Given] = ["own"]
    asking: Asking = Asking()
    n_bootstrap: int = Field(2000, ge=1, description="resamples of documents")
    files: ClassVar[tuple[str, ...]] = (ANSWERS,)

    def check(self, run: Run) -> None:
        check_asked(run)
        if not self.prompts and not self.formats:
            raise ConfigError("prompts: neither these nor formats name anything to ask with; name one, or remove this part")
        for name in self.written:
            if name == "swapped" or name not in self.prompts:
                raise ConfigError(f"written: answers are not asked with {name} and scored; leave it out, or add it to prompts")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model, data = subject.model(), subject.run.data
        assert isinstance(model, SoftPrompt) and isinstance(data, QuestionsConfig)
        questions = chosen_questions(data, subject.data, self.asking)
        z_QMZ = wires(model, questions, self.asking.batch_size)
        n_documents = len(texts(questions))
        began = time.process_time()
        wires(model, questions, self.asking.batch_size)  # again, since by now the features are at hand
        yield Measurement("compress_seconds", (time.process_time() - began) / n_documents, "seconds", n_documents)
        yield Measurement("trained_parameters", sum(t.numel() for t in model.trained_state().values()), "parameters", 1)
        rows: list[Answered] = []
        for reader in model.lms:
            for prompt in self.prompts:
                began = time.process_time()
                rows += self._asked(model, reader, prompt, questions, z_QMZ)
                seconds = (time.process_time() - began) / len(questions)
                yield Measurement("answer_seconds", seconds, "seconds", len(questions), {"reader": reader, "prompt": prompt})
            for bits in self.formats:
                format_ = model.config.wire_format(bits)
                sent_QMZ = torch.stack([unpack(pack(z_MZ, format_), format_) for z_MZ in z_QMZ.float().cpu()]).to(z_QMZ)
                rows += self._ask(model, reader, questions, sent_QMZ, "own", bits)
        for bits in self.formats:
            total = n_bytes(model.config.wire_format(bits)) * n_documents
            yield Measurement("context_bytes", total, "bytes", n_documents, {"coding": bits})
        write_answers(subject.out, rows)
        yield from measured([row for row in rows if row.prompt != "swapped_other"])
        yield from follows(rows, self.n_bootstrap)

    def _asked(
        self, model: SoftPrompt, reader: str, prompt: Given, questions: Sequence[Question], z_QMZ: Tensor
    ) -> list[Answered]:
        if prompt == "beside":
            return self._ask(model, reader, questions, z_QMZ, prompt, beside=[q.document for q in questions])
        if prompt == "swapped":
            return self._swapped(model, reader, questions)
        return self._ask(model, reader, questions, controlled(prompt, z_QMZ, questions, self.asking.batch_size), prompt)

    def _swapped(self, model: SoftPrompt, reader: str, questions: Sequence[Question]) -> list[Answered]:
        """The answer that the document had, `swapped`, and the one that it was given, `swapped_other`, after the same wire."""
        changed = swapped(questions)
        if not changed:
            return []
        others = [other for _, other in changed]
        z_QMZ = wires(model, others, self.asking.batch_size)
        before = [replace(other, answers=questions[i].answers, start=None) for i, other in changed]
        return [
            *self._ask(model, reader, before, z_QMZ, "swapped"),
            *self._ask(model, reader, [replace(q, start=None) for q in others], z_QMZ, "swapped_other"),
        ]

    def _ask(
        self, model: SoftPrompt, reader: str, questions: Sequence[Question], z_QMZ: Tensor, prompt: str,
        format_: str = AS_COMPUTED, beside: Sequence[str] | None = None,
    ) -> list[Answered]:  # fmt: skip
        builder = model.builders[reader]
        documents = [None] * len(questions) if beside is None else beside
        pieces: Sequence[Tensor | KeyValues] = model.soft(z_QMZ, reader)
        prompts = [
            builder.soft(question.question, piece, document)
            for question, piece, document in zip(questions, pieces, documents, strict=True)
        ]
        written = format_ == AS_COMPUTED and prompt in self.written
        return ask(
            model.lms[reader], builder, questions, prompts, self.asking, z_QMZ.shape[1], reader, prompt, format_, written
        )


def wires(model: SoftPrompt, questions: Sequence[Question], batch_size: int) -> Tensor:
    """The wire of each question's document, (Q, M, d_z); each document is read once."""
    documents = texts(questions)
    z_DMZ = torch.cat([model.wire(documents[i : i + batch_size]) for i in range(0, len(documents), batch_size)])
    places = {document: i for i, document in enumerate(documents)}
    return z_DMZ[torch.tensor([places[question.document] for question in questions], device=z_DMZ.device)]


def follows(rows: Sequence[Answered], n_bootstrap: int) -> Iterator[Measurement]:
    """Of the swapped answers the share that is likelier, token by token, than the answer that the document had before."""
    for reader in readers(rows):
        before, given = asked(rows, "swapped", reader), asked(rows, "swapped_other", reader)
        if before:
            followed = [float(b.nats / b.tokens < a.nats / a.tokens) for a, b in zip(before, given, strict=True)]
            documents, ones = [row.document for row in before], [1.0] * len(before)
            found = interval(documents, [followed, ones], lambda sums: sums[..., 0] / sums[..., 1], n_bootstrap)
            yield from found.measurements("swap_followed", "fraction", {"reader": reader})
