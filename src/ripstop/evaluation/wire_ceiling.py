"""The ceiling of wires: soft prompts of as many vectors, each optimised for one document with the answers known.

No encoder is between: what is moved are the vectors that the frozen model reads, from the first tokens of the document on,
until its questions' gold answers are likely. That bounds what any compressor can reach with so many vectors, and says nothing
about what one that does not know the questions can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ripstop.data.batching import evenly
from ripstop.data.question import Question, texts
from ripstop.data.questions import QuestionsConfig
from ripstop.evaluation.answered import ANSWERS, Answered, gain, measured, write_answers
from ripstop.evaluation.asking import Asking, ask, check_asked, chosen_questions
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.frozen.base import FrozenLM
from ripstop.frozen.prompt import PromptBuilder
from ripstop.frozen.scoring import answer_logits
from ripstop.models.soft_prompt import SoftPrompt
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


class WireCeilingConfig(PartConfig):
    """n_optimised: questions of the test split, spread evenly; all of a document's share its wire. lr: of Adam, in units of the
    embedding table's RMS."""

    kind: Literal["wire_ceiling"] = "wire_ceiling"
    n_optimised: int = Field(8, ge=1)
    steps: int = Field(30, ge=1)
    lr: float = Field(0.1, gt=0)
    readers: list[str] | None = Field(None, description="frozen models that it is found for; none given: all")
    n_bootstrap: int = Field(2000, ge=1, description="resamples of documents")
    asking: Asking = Asking()
    files: ClassVar[tuple[str, ...]] = (ANSWERS,)

    def check(self, run: Run) -> None:
        check_asked(run)

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        data, config = subject.run.data, check_asked(subject.run)
        assert isinstance(data, QuestionsConfig)
        rows: list[Answered] = []
        gains: list[Measurement] = []
        with torch.inference_mode(False):  # whatever was made in inference mode takes part in no gradient
            model = subject.model()
            assert isinstance(model, SoftPrompt)
            questions = evenly(chosen_questions(data, subject.data, self.asking), self.n_optimised)
            for reader in model.lms if self.readers is None else self.readers:
                lm, builder = model.lms[reader], model.builders[reader]
                soft = self._optimised(lm, builder, questions, config.n_vectors)
                prompts = [builder.soft(q.question, soft[q.document]) for q in questions]
                with torch.no_grad():
                    found = ask(lm, builder, questions, prompts, self.asking, config.n_vectors, reader, "ceiling")
                    prompts = [builder.text(q.question, q.document) for q in questions]
                    text = ask(lm, builder, questions, prompts, self.asking, config.n_vectors, reader, "text")
                rows += found
                gains += gain(found, text, self.n_bootstrap)
        write_answers(subject.out, rows)
        yield from measured(rows)
        yield from gains

    def _optimised(
        self, lm: FrozenLM, builder: PromptBuilder, questions: Sequence[Question], n_vectors: int
    ) -> dict[str, Tensor]:
        """Document -> its soft prompt (M, D): of all steps that with the lowest loss over its questions."""
        found: dict[str, Tensor] = {}
        documents = texts(questions)
        for start in range(0, len(documents), self.asking.batch_size):
            batch = documents[start : start + self.asking.batch_size]
            found |= self._optimised_batch(lm, builder, [q for q in questions if q.document in batch], n_vectors)
        return found

    def _optimised_batch(
        self, lm: FrozenLM, builder: PromptBuilder, questions: Sequence[Question], n_vectors: int
    ) -> dict[str, Tensor]:
        documents = texts(questions)
        soft = {document: first_tokens(lm, document, n_vectors).requires_grad_() for document in documents}
        best = {document: (float("inf"), tensor.detach().clone()) for document, tensor in soft.items()}
        gold = [builder.answer_ids(question.answers[0]) for question in questions]
        optimizer = torch.optim.Adam(list(soft.values()), lr=self.lr * lm.embedding_rms)
        for step in range(self.steps + 1):
            with torch.enable_grad():
                prompts = [builder.soft(question.question, soft[question.document]) for question in questions]
                logits = answer_logits(lm, builder, prompts, gold)
                losses = [
                    F.cross_entropy(logits_NV.float(), torch.tensor(ids, device=logits_NV.device))
                    for logits_NV, ids in zip(logits, gold, strict=True)
                ]
                total = torch.stack(losses).sum()
            for document in documents:
                loss = sum(float(x.detach()) for q, x in zip(questions, losses, strict=True) if q.document == document)
                if loss < best[document][0]:
                    best[document] = loss, soft[document].detach().clone()
            if step < self.steps:
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
        return {document: tensor for document, (_, tensor) in best.items()}


def first_tokens(lm: FrozenLM, text: str, n: int) -> Tensor:
    """Embeddings of the first `n` tokens of a text, (n, D); a shorter one begins again."""
    ids = lm.encode(text)
    ids = (ids * (n // max(1, len(ids)) + 1))[:n]
    return lm.embed(torch.tensor(ids)).detach().clone()
