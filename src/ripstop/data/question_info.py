"""What questions tell the model that is built for them: examples to put before each, and the documents to train on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.data.question import Question, read_questions, texts


@dataclass(frozen=True)
class QuestionInfo:
    """path: the prepared training questions. Nothing is read before it is asked for."""

    vocab_size: int
    path: Path

    def examples(self, n: int) -> list[Question]:
        """Training questions, of every kind in turn, each on a document of its own: of a kind those that stand a quarter up the
        order of lengths, so that they are neither stumps nor costly."""
        kinds: dict[str, list[Question]] = {}
        for question in sorted(read_questions(self.path), key=lambda question: (question.n_words, question.id)):
            kinds.setdefault(question.group, []).append(question)
        columns = [asked[len(asked) // 4 :] for _, asked in sorted(kinds.items())]
        found: dict[str, Question] = {}
        for question in itertools.chain.from_iterable(itertools.zip_longest(*columns)):
            if question is not None and len(found) < n:
                found.setdefault(question.document, question)
        if len(found) < n:
            raise ConfigError(f"{self.path}: holds {len(found)} of the {n} examples that a model asks for; raise data.n_train")
        return list(found.values())

    def training_documents(self) -> Sequence[str]:
        """Each once."""
        return texts(read_questions(self.path))
