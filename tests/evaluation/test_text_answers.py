"""What texts are cut to, swapped for and coded in, and what the ceiling keeps: each against the plainest way to get it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation.asked_runs import Asked, built, prepared

from ripstop.data.question import texts
from ripstop.evaluation import wire_ceiling
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


def test_the_ceiling_is_what_was_best_of_all_steps(given: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the second of three updates the answer is as sure as never before, nor after."""
    model, question = built(given), given.questions[0]
    seen: list[torch.Tensor] = []

    def logits(lm: object, builder: object, prompts: list[Prompt], answers: list[list[int]]) -> list[torch.Tensor]:
        (soft_MD,) = (piece for piece in prompts[0].pieces if isinstance(piece, torch.Tensor))
        right_NV = torch.nn.functional.one_hot(torch.tensor(answers[0]), model.lms["first"].vocab_size).float()
        seen.append(soft_MD.detach().clone())
        return [right_NV * ((0.0, 1.0, 5.0, 2.0)[len(seen) - 1] + 1e-3 * soft_MD.sum())]

    monkeypatch.setattr(wire_ceiling, "answer_logits", logits)
    part = WireCeilingConfig(steps=3, lr=0.5)
    found = part._optimised(model.lms["first"], model.builders["first"], [question], 4)
    assert len(seen) == 4 and not torch.equal(seen[2], seen[3])
    assert torch.equal(found[question.document], seen[2])
    assert torch.equal(seen[0], first_tokens(model.lms["first"], question.document, 4))
