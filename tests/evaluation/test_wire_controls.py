"""Controls of wires: who gets whose, and what an answer is swapped for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.data.question import Question
from ripstop.evaluation.wire_controls import WIRE_CONTROLS, controlled, shuffled_of, swapped, wrong_of


def question(i: int, kind: str = "cloze", document: str | None = None, answer: str = "") -> Question:
    answer = answer or f"Name{i}"
    document = document or f"{answer} lived in town {i}; {answer}s were many."
    start = document.find(answer)
    return Question(f"q{i}", document, "t", document, "Who?", (answer,), start if start >= 0 else None, kind)


QUESTIONS = [
    question(0),
    question(1, "description"),
    question(2),
    question(3, "description"),
    question(4),
    question(5, "trivia"),
]


def test_wrong_is_of_the_same_group_and_of_any_where_there_is_none() -> None:
    assert wrong_of(QUESTIONS) == [2, 3, 4, 1, 0, 0]


def test_wrong_has_another_document_and_another_answer() -> None:
    same = [question(0), question(1, document=QUESTIONS[0].document, answer="town"), question(2, answer="Name0"), question(3)]
    assert wrong_of(same)[0] == 3
    with pytest.raises(ConfigError, match="two questions with different documents and answers"):
        wrong_of([question(0), replace(question(0), id="other")])


@pytest.mark.parametrize("n", [2, 3, 5, 16])
def test_shuffled_stays_in_its_batch_and_nobody_keeps_theirs(n: int) -> None:
    order = shuffled_of([question(i) for i in range(n)], 4)
    for start in range(0, n, 4):
        batch = list(range(start, min(start + 4, n)))
        assert sorted(order[start : start + 4]) == batch
        assert len(batch) == 1 or all(order[i] != i for i in batch)


def test_what_each_control_puts_in_place() -> None:
    z_QMZ = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 7).view(6, 1, 1)
    made = {control: controlled(control, z_QMZ, QUESTIONS, 4) for control in WIRE_CONTROLS}
    assert made["own"] is z_QMZ
    assert torch.equal(made["wrong"], z_QMZ[[2, 3, 4, 1, 0, 0]])
    assert torch.equal(made["shuffled"], z_QMZ[shuffled_of(QUESTIONS, 4)])
    assert not made["zero"].any() and made["zero"].shape == z_QMZ.shape
    torch.testing.assert_close(made["random"].norm(dim=-1), z_QMZ.norm(dim=-1))
    assert torch.nn.functional.cosine_similarity(made["random"], z_QMZ, dim=-1).abs().mean() < 0.6
    assert torch.equal(made["random"], controlled("random", z_QMZ, QUESTIONS, 4))


def test_an_answer_is_swapped_wherever_it_stands_as_a_word() -> None:
    (first, _, third, *_), found = QUESTIONS, dict(swapped(QUESTIONS))
    assert found[0].document == "Name2 lived in town 0; Name0s were many."
    assert found[0].answers == ("Name2",) and found[0].start == 0 and found[0].question == first.question
    assert found[2].document.startswith("Name4") and third.document.startswith("Name2")


def test_what_cannot_be_swapped_is_left_out() -> None:
    nowhere = replace(question(0), start=None)
    inside = question(1, document="Annex of Ann", answer="Ann")
    inside = replace(inside, document="Annex only", start=0)
    holds = question(2, document="Name3 and Name2", answer="Name2")
    assert [i for i, _ in swapped([nowhere, inside, holds, question(3)])] == [3]
