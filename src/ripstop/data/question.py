"""A question about a document, and batches of them: text, which each model that reads it turns into tokens of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import torch

from ripstop.config import ConfigError
from ripstop.files import read_text, write_text

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Question:
    """What is asked of a document, and the answers that count as right, the preferred one first.

    id: its own name in the whole data. document_id: questions with the same one ask about the same document.
    start: character at which answers[0] begins in `document`; None: it does not stand there.
    kind: how the question came about: description, cloze, pattern:<name>, trivia, squad, hub.
    """

    id: str
    document_id: str
    title: str
    document: str
    question: str
    answers: tuple[str, ...]
    start: int | None
    kind: str

    @property
    def group(self) -> str:
        """The kind without the name of a pattern: what results are told apart by."""
        return self.kind.partition(":")[0]

    @property
    def n_words(self) -> int:
        """Words between white space of the document, the question and the first answer: what a row costs, to any model."""
        return sum(len(text.split()) for text in (self.document, self.question, self.answers[0]))


@dataclass(frozen=True)
class QuestionBatch:
    """Questions that are read together. They are text and lie on no device.

    progress: the part of the training that is over when they are read; 1 where none is.
    """

    questions: tuple[Question, ...]
    progress: float = 1.0

    def to(self, device: torch.device | str) -> Self:
        return self

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def n_tokens(self) -> int:
        """Words of the batch, see `Question.n_words`: each model cuts them into tokens of its own."""
        return sum(question.n_words for question in self.questions)

    @property
    def n_targets(self) -> int:
        """Questions: an objective is a mean over them."""
        return len(self.questions)


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """A JSON line each."""
    write_text(path, "".join(json.dumps(asdict(question), ensure_ascii=False) + "\n" for question in questions))


def read_questions(path: Path) -> list[Question]:
    """What `write_questions` wrote; `ConfigError` where it is something else."""
    found = []
    for number, line in enumerate(read_text(path, "run `python -m ripstop prepare` for this data first").split("\n"), 1):
        if line:
            try:
                row = json.loads(line)
                found.append(Question(**{**row, "answers": tuple(row["answers"])}))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ConfigError(f"{path}:{number}: holds no question ({error}); prepare the data again") from None
    return found


def texts(questions: Sequence[Question]) -> list[str]:
    """The documents, each once, in the order in which they first come."""
    return list(dict.fromkeys(question.document for question in questions))
