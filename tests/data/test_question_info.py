"""What questions tell a model: examples of every kind, and each document to train on once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.data.question import Question, write_questions
from ripstop.data.question_info import QuestionInfo
from ripstop.data.question_stream import QuestionStream


def asked(kind: str, n_words: int, document: int) -> Question:
    """Of so many words, one of them the answer."""
    text = " ".join(["word"] * (n_words - 3) + [str(document)])
    return Question(f"{kind}-{n_words}-{document}", str(document), "t", text, "Which?", ("word",), 0, kind)


@pytest.fixture
def info(tmp_path: Path) -> QuestionInfo:
    rows = [asked("cloze", n, n) for n in (12, 10, 11, 13)] + [asked("pattern:born", n, 100 + n) for n in (40, 20)]
    write_questions(tmp_path / "train.jsonl", [*rows, asked("cloze", 12, 12)])
    return QuestionInfo(1, tmp_path / "train.jsonl")


def test_examples_are_of_every_kind_in_turn_a_quarter_up_the_order_of_lengths(info: QuestionInfo) -> None:
    """Five of one kind, the second shortest first; two of the other; a document once."""
    assert [(q.group, q.n_words) for q in info.examples(4)] == [("cloze", 11), ("pattern", 20), ("cloze", 12), ("pattern", 40)]
    assert info.examples(5)[:4] == info.examples(4) and info.examples(5)[4].n_words == 13
    with pytest.raises(ConfigError, match="holds 5 of the 8 examples"):
        info.examples(8)


def test_documents_to_train_on_are_named_once(info: QuestionInfo) -> None:
    documents = info.training_documents()
    assert len(documents) == len(set(documents)) == 6


def test_batches_know_how_much_of_the_training_is_over(info: QuestionInfo) -> None:
    """Also after a resume, and behind its end."""
    questions = info.examples(5)
    stream = QuestionStream(questions, 40, 0, n_batches=8)
    assert [next(stream).progress for _ in range(3)] == [0, 1 / 8, 2 / 8]
    again = QuestionStream(questions, 40, 0, n_batches=8)
    again.load_state_dict(stream.state_dict())
    for _ in range(8):
        one, other = next(stream), next(again)
        assert one == other
    assert one.progress == 1
