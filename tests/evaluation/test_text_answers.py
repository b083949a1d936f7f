"""What texts are cut to, swapped for and coded in, and what the ceiling keeps: each against the plainest way to get it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.asked_runs import Asked, built, prepared

from ripstop.data.question import texts
from ripstop.evaluation.answered import asked, read_answers
from ripstop.evaluation.coded_texts import coded_bytes
from ripstop.evaluation.text_answers import TextAnswersConfig, alignment_gap
from ripstop.evaluation.text_bits import SIZES
from ripstop.evaluation.wire_ceiling import WireCeilingConfig, first_tokens
from ripstop.evaluation.wire_controls import swapped
from ripstop.frozen.prompt import Prompt, PromptBuilder
from ripstop.frozen.scoring import score


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield prepared(folder)


def test_a_text_is_cut_to_as_many_tokens_as_a_wire_has_vectors(given: Asked) -> None:
    model = built(given)
    lm, config = model.lms["first"], model.config.replace(n_vectors=30)
    cut = TextAnswersConfig()._given(lm, given.questions, config)["cut_tokens", "none"]
    assert list(cut) == texts(given.questions)
    for text, kept in cut.items():
        assert kept is not None and text.startswith(kept) and 0 < len(lm.encode(kept)) <= 30
        assert len(lm.encode(f"{kept} {text[len(kept) :].split()[0]}")) > 30


@torch.inference_mode()
def test_a_swapped_answer_is_asked_after_the_swapped_text(given: Asked, tmp_path: Path) -> None:
    given.measured(TextAnswersConfig(swapped=["first"], n_coded=1, n_decoded=0), tmp_path)
    rows, model, questions = read_answers(tmp_path), built(given), given.questions
    lm, builder = model.lms["first"], model.builders["first"]
    changed = {questions[i].id: (questions[i], other) for i, other in swapped(questions)}
    for prompt, which in (("swapped", 0), ("swapped_other", 1)):
        found = asked(rows, prompt, "first")
        assert [row.question for row in found] == sorted(changed)
        prompts = [builder.text(changed[row.question][0].question, changed[row.question][1].document) for row in found]
        gold = [builder.answer_ids(changed[row.question][which].answers[0]) for row in found]
        assert [row.nats for row in found] == pytest.approx([s.nll for s in score(lm, builder, prompts, gold)], abs=2e-4)


@torch.inference_mode()
def test_the_alignment_gap_is_that_of_the_worst_question(given: Asked) -> None:
    model = built(given)
    lm, builder, questions = model.lms["first"], model.builders["first"], given.questions[:3]
    assert alignment_gap(lm, builder, questions, 2, "first").value < 1e-4

    class OneIsOff(PromptBuilder):
        n_made = 0

        def soft(self, question: str, soft: Any, document: str | None = None) -> Prompt:
            self.n_made += 1
            return super().soft(question, 3 * soft if self.n_made == 2 else soft, document)

    off = OneIsOff(lm, builder.config.replace(n_shots=0), [])
    assert alignment_gap(lm, off, questions, 2, "first").value > 1e-3


def test_bytes_of_each_coding_are_sums_over_documents(given: Asked) -> None:
    lm, documents = built(given).lms["first"], texts(given.questions)[:2]
    found = {m.slice["coding"]: m.value for m in coded_bytes(lm, documents, 1, "first")}
    assert {name: found[name] for name in SIZES} == {name: sum(map(size, documents)) for name, size in SIZES.items()}
    assert len({*found.values()}) == len(found) == 4


def test_the_ceiling_is_the_best_of_all_steps_and_never_below_its_start(given: Asked, tmp_path: Path) -> None:
    """With steps so large that each makes everything worse."""
    given.measured(WireCeilingConfig(n_optimised=2, steps=3, lr=300.0), tmp_path, "constant")
    questions, model = {question.id: question for question in given.questions}, built(given)
    lm, builder, rows = model.lms["first"], model.builders["first"], read_answers(tmp_path)
    chosen = [questions[row.question] for row in rows]
    assert len({question.document for question in chosen}) == len(chosen) == 2
    prompts = [builder.soft(q.question, first_tokens(lm, q.document, 4)) for q in chosen]
    start = score(lm, builder, prompts, [builder.answer_ids(q.answers[0]) for q in chosen])
    assert all(row.nats <= found.nll + 1e-3 for row, found in zip(rows, start, strict=True))
