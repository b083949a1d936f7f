"""The same questions with the text itself in the prompt, whole or cut, and without any: what every wire is compared with.

Nothing is trained here. The model of the run says which frozen models are asked, by which prompts, and of how many numbers the
wires are that texts are cut for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ripstop.config import ConfigError, Size, nearest
from ripstop.data.batching import evenly
from ripstop.data.question import Question, texts
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answered import ANSWERS, AS_COMPUTED, Answered, asked, gain, measured, write_answers
from ripstop.evaluation.answers import follows
from ripstop.evaluation.asking import Asking, ask, check_asked, chosen_questions, joint_scores
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.evaluation.coded_texts import coded_bytes
from ripstop.evaluation.text_bits import cut_to_bytes, cut_to_tokens, utf8_bytes
from ripstop.evaluation.wire_controls import swapped
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.prompt import Prompt, PromptBuilder
from ripstop.frozen.scoring import score
from ripstop.models.soft_prompt import SoftPrompt, SoftPromptConfig
from ripstop.records import Measurement, Scalar
from ripstop.wire.quantize import Bits, n_bytes

if TYPE_CHECKING:
    from ripstop.runs import Run


WRITTEN = ("text", "closed", "cut_tokens")
"""The prompts whose answers tables print; of the others it is the loss that is compared."""


class TextAnswersConfig(PartConfig):
    """The test questions after the full text (`text`), no text (`closed`), its first tokens, as many as a wire has vectors
    (`cut_tokens`), and as much of it as takes no more UTF-8 bytes than a wire packed in each of `formats` (`cut_bytes`, whose
    format is that number).

    sizes: further numbers of bytes that it is cut to, such as those of other wires.
    What is the same text for every document is asked once. written: after `WRITTEN`, answers are written too.
    swapped: frozen models that are asked after the text with another's answer in the place of its own, too.
    n_joint: questions of which what each of several frozen models writes after the text is weighed by all of them together.
    n_coded: documents that are coded, by gzip, zstd, and by arithmetic coding under each frozen model, which reads them token
        by token; n_decoded of them are decoded again, and must come out as they were.
    n_aligned: questions whose full text is given as its own embeddings, too, as a wire would be.
    """

    kind: Literal["text_answers"] = "text_answers"
    formats: list[Bits] = []
    sizes: list[Size] = []
    written: bool = True
    swapped: list[str] = []
    n_joint: int = Field(0, ge=0)
    n_coded: int = Field(8, ge=1)
    n_decoded: int = Field(1, ge=0)
    n_aligned: int = Field(8, ge=1)
    n_bootstrap: int = Field(2000, ge=1, description="resamples of documents")
    asking: Asking = Asking()
    files: ClassVar[tuple[str, ...]] = (ANSWERS,)

    def check(self, run: Run) -> None:
        model = check_asked(run)
        if self.n_joint and (len(model.frozen) < 2 or not self.written):
            raise ConfigError("n_joint: what two models write is weighed; name a second one and set `written`, or leave it out")
        for reader in self.swapped:
            if reader not in model.frozen:
                raise ConfigError(f"swapped: {reader!r} is no model of the run{nearest(reader, list(model.frozen))}")
        if self.n_decoded > self.n_coded:
            raise ConfigError(f"n_decoded: {self.n_decoded} of {self.n_coded} coded documents cannot be decoded; lower it")

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        model, data, config = subject.model(), subject.run.data, check_asked(subject.run)
        assert isinstance(model, SoftPrompt) and isinstance(data, QuestionsConfig)
        questions = chosen_questions(data, subject.data, self.asking)
        coded = evenly(texts(questions), self.n_coded)
        rows: list[Answered] = []
        for reader, lm in model.lms.items():
            made: list[tuple[dict[str, str | None], list[Answered]]] = []
            for (prompt, format_), documents in self._given(lm, questions, config).items():
                began = time.process_time()
                same = next((found for texts_, found in made if texts_ == documents), None)
                if same is None:
                    given = [documents[question.document] for question in questions]
                    found = self._ask(model, reader, questions, given, prompt, format_, config)
                    seconds = (time.process_time() - began) / len(questions)
                    way: dict[str, Scalar] = {"reader": reader, "prompt": prompt, "format": format_}
                    yield Measurement("answer_seconds", seconds, "seconds", len(questions), way)
                    made.append((documents, found))
                else:
                    found = [replace(row, prompt=prompt, format=format_) for row in same]
                rows += found
                total = sum(utf8_bytes(text) for text in documents.values() if text is not None)
                where: dict[str, Scalar] = {"reader": reader, "prompt": prompt, "format": format_, "coding": "utf8"}
                yield Measurement("context_bytes", total, "bytes", len(documents), where)
            if reader in self.swapped:
                rows += self._swapped(model, reader, questions, config)
            yield alignment_gap(lm, model.builders[reader], evenly(questions, self.n_aligned), self.asking.batch_size, reader)
            yield from coded_bytes(lm, coded, self.n_decoded, reader)
            yield from gain(asked(rows, "text", reader), asked(rows, "closed", reader), self.n_bootstrap)
        write_answers(subject.out, rows)
        yield from measured([row for row in rows if row.prompt != "swapped_other"])
        yield from follows(rows, self.n_bootstrap)
        if self.n_joint:
            some = evenly(questions, self.n_joint)
            yield from joint_scores(model.lms, self._prompts(model, some), some, rows, "text", self.asking.batch_size)

    def _given(
        self, lm: FrozenLM, questions: Sequence[Question], config: SoftPromptConfig
    ) -> dict[tuple[str, str], dict[str, str | None]]:
        """(prompt, format) -> what stands for each document."""
        every = texts(questions)
        cut: dict[tuple[str, str], dict[str, str | None]] = {
            ("closed", AS_COMPUTED): dict.fromkeys(every),
            ("cut_tokens", AS_COMPUTED): {text: cut_to_tokens(lm.encode, text, config.n_vectors) for text in every},
            ("text", AS_COMPUTED): {text: text for text in every},
        }
        for size in sorted({*(n_bytes(config.wire_format(bits)) for bits in self.formats), *self.sizes}):
            cut["cut_bytes", str(size)] = {text: cut_to_bytes(text, size) for text in every}
        return cut

    def _ask(
        self, model: SoftPrompt, reader: str, questions: Sequence[Question], documents: Sequence[str | None], prompt: str,
        format_: str, config: SoftPromptConfig,
    ) -> list[Answered]:  # fmt: skip
        builder = model.builders[reader]
        prompts = [builder.text(q.question, document) for q, document in zip(questions, documents, strict=True)]
        written = self.written and prompt in WRITTEN
        return ask(
            model.lms[reader], builder, questions, prompts, self.asking, config.n_vectors, reader, prompt, format_, written
        )

    def _swapped(
        self, model: SoftPrompt, reader: str, questions: Sequence[Question], config: SoftPromptConfig
    ) -> list[Answered]:
        changed = [(questions[i], replace(other, start=None)) for i, other in swapped(questions)]
        documents = [other.document for _, other in changed]
        before = [replace(question, start=None) for question, _ in changed]
        given = [other for _, other in changed]
        return [
            row
            for those, prompt in ((before, "swapped"), (given, "swapped_other"))
            for row in (self._ask(model, reader, those, documents, prompt, AS_COMPUTED, config) if those else [])
        ]

    def _prompts(self, model: SoftPrompt, questions: Sequence[Question]) -> Mapping[str, tuple[PromptBuilder, list[Prompt]]]:
        """Reader -> its builder and the prompts of the full text."""
        return {
            reader: (builder, [builder.text(question.question, question.document) for question in questions])
            for reader, builder in model.builders.items()
        }


def alignment_gap(
    lm: FrozenLM, builder: PromptBuilder, questions: Sequence[Question], batch_size: int, reader: str
) -> Measurement:
    """The most that a loss per token changes where the text is given as its own embeddings, as a wire would be."""
    gold = [builder.answer_ids(question.answers[0]) for question in questions]
    as_text = [builder.text(question.question, question.document) for question in questions]
    ids = [lm.encode(" " + " ".join(question.document.split())) for question in questions]
    as_soft = [builder.soft(question.question, lm.embed(row)) for question, row in zip(questions, ids, strict=True)]
    scored = zip(score(lm, builder, as_text, gold, batch_size), score(lm, builder, as_soft, gold, batch_size), strict=True)
    gap = max(abs(a.nll - b.nll) / a.n_tokens for a, b in scored)
    return Measurement("alignment_gap", gap, "nats", len(questions), {"reader": reader})
