"""Answers as an objective: its terms by hand, what a step measures, and a training from the first step to the saved model."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from models.soft_prompts import Info, Stream, questions, soft_prompt
from safetensors import safe_open
from torch.testing import assert_close

from ripstop.config import ConfigError
from ripstop.data.question import QuestionBatch
from ripstop.frozen.scoring import answer_logits, score
from ripstop.models.soft_prompt import SoftPrompt, SoftPromptConfig
from ripstop.models.weights import load_weights, save_weights
from ripstop.training.config import TrainingConfig
from ripstop.training.objectives.answers import AnswersConfig, _divergence
from ripstop.training.objectives.base import Loss
from ripstop.training.reporting import Reporting
from ripstop.training.trainer import Trainer

BATCH = QuestionBatch(tuple(questions(5, seed=3)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "cache"))


@functools.cache
def model() -> SoftPrompt:
    """Nobody may change it; in evaluation mode."""
    torch.manual_seed(0)
    return soft_prompt(two=True).build(Info()).eval()


def measured(batch: QuestionBatch = BATCH, training: bool = False, **settings: Any) -> Loss:
    asked = model().train(training)
    try:
        with torch.no_grad():
            return AnswersConfig(**settings).build()(asked, batch)
    finally:
        asked.eval()


def alone(question: int, name: str) -> tuple[torch.Tensor, list[int]]:
    """Logits of one question by itself, without the objective, and its answer."""
    lm, builder, asked = model().lms[name], model().builders[name], BATCH.questions[question]
    with torch.no_grad():
        soft = model().soft(model().wire([asked.document]), name)[0]
        answer = builder.answer_ids(asked.answers[0])
        return answer_logits(lm, builder, [builder.soft(asked.question, soft)], [answer])[0], answer


def test_the_cross_entropy_is_that_of_each_question_alone() -> None:
    """Two tokens, the first three times as heavy; a mean of each question, summed over them, a mean over both models."""
    total = nll = first = 0.0
    for name in ("one", "two"):
        for question in range(5):
            logits_AV, answer = alone(question, name)
            losses = [-float(logits_AV[i].log_softmax(-1)[answer[i]]) for i in range(2)]
            total += (3 * losses[0] + losses[1]) / 4 / 2
            nll += sum(losses) / 2 / 10
            first += float(logits_AV[0].argmax() == answer[0]) / 10
    found = measured(n_tokens=2, first_weight=3.0)
    assert found.n == 5 and float(found.sum) == pytest.approx(total, rel=1e-4)
    assert float(found.metrics["nll"]) == pytest.approx(nll, rel=1e-4)
    assert float(found.metrics["first_accuracy"]) == pytest.approx(first, abs=1e-6)
    assert math.isnan(found.metrics["distill"]) and math.isnan(found.metrics["reconstruction"])
    assert float(measured(n_tokens=2, first_weight=3.0, answer=0.5).sum) == pytest.approx(total / 2, rel=1e-4)


def test_a_whole_answer_is_what_is_scored() -> None:
    """K tokens cut it; without a K every token enters, its end included."""
    builder, lm = model().builders["one"], model().lms["one"]
    with torch.no_grad():
        softs = model().soft(model().wire([q.document for q in BATCH.questions]), "one")
    prompts = [builder.soft(q.question, soft) for q, soft in zip(BATCH.questions, softs, strict=True)]
    answers = [builder.answer_ids(q.answers[0]) for q in BATCH.questions]
    expected = sum(row.nll / row.n_tokens for row in score(lm, builder, prompts, answers))
    with first_alone():
        found, cut = measured(n_tokens=None), measured(n_tokens=1)
    assert float(found.sum) == pytest.approx(expected, rel=1e-4)
    assert float(found.sum) != pytest.approx(float(cut.sum), rel=1e-3)


@contextmanager
def first_alone() -> Iterator[None]:
    """As if the first were the only frozen model."""
    kept, both = model().lms, model()
    both.lms = torch.nn.ModuleDict({"one": kept["one"]})  # type: ignore[assignment]
    try:
        yield
    finally:
        both.lms = kept


def test_divergence_by_hand() -> None:
    """KL of (1/2, 1/2) from (1/4, 3/4), and of equals: a mean over tokens."""
    teacher, student = torch.tensor([[0.5, 0.5], [0.2, 0.8]]).log() + 3, torch.tensor([[0.25, 0.75], [0.2, 0.8]]).log()
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert float(_divergence(teacher, student)) == pytest.approx(expected, rel=1e-5)
    assert float(_divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_distillation_asks_the_same_model_with_the_text() -> None:
    total = 0.0
    for name in ("one", "two"):
        lm, builder = model().lms[name], model().builders[name]
        for question, asked in enumerate(BATCH.questions):
            logits_AV, answer = alone(question, name)
            with torch.no_grad():
                text = builder.text(asked.question, asked.document)
                teacher_AV = answer_logits(lm, builder, [text], [answer])[0]
            total += float(_divergence(teacher_AV[:4], logits_AV[:4])) / 2
    found = measured(answer=0.0, distill=2.0)
    assert float(found.sum) == pytest.approx(2 * total, rel=1e-3)
    assert float(found.metrics["distill"]) == pytest.approx(total / 5, rel=1e-3)
    assert not math.isnan(found.metrics["nll"])


def test_a_training_may_begin_with_reconstruction_alone() -> None:
    documents = [question.document for question in BATCH.questions]
    with torch.no_grad():
        z_BMZ = model().wire(documents)
        lost = sum(float(model().words_lost(z_BMZ, documents, name, 24).sum()) for name in ("one", "two")) / 2
    early, late = QuestionBatch(BATCH.questions, 0.29), QuestionBatch(BATCH.questions, 0.3)
    full = model().config.batch_flops(1, early)
    found = measured(early, training=True, pretrain=0.3)
    assert 0 < model().config.batch_flops(1, early) < full / 2, "no frozen model has read it"
    assert model().config.batch_flops(1, late) == full
    assert float(found.sum) == pytest.approx(lost, rel=1e-4) and math.isnan(found.metrics["nll"])
    assert float(found.metrics["reconstruction"]) == pytest.approx(lost / 5, rel=1e-4)
    answers = measured()
    for batch, training in ((late, True), (early, False)):  # held out, it is the answers that count
        assert torch.equal(measured(batch, training=training, pretrain=0.3).sum, answers.sum)
    beside = measured(late, training=True, pretrain=0.3, reconstruction=0.1)
    assert float(beside.sum) == pytest.approx(float(answers.sum) + 0.1 * lost, rel=1e-4)
    assert {*found.metrics} == {*answers.metrics} == {"nll", "first_accuracy", "distill", "reconstruction"}


def test_models_by_turns_are_drawn_by_the_batch_and_held_out_all_count() -> None:
    each = {name: QuestionBatch(tuple(questions(3, seed=seed))) for seed, name in enumerate("abcdefgh")}
    losses = {name: measured(batch, training=True, models="alternate") for name, batch in each.items()}
    again = {name: measured(batch, training=True, models="alternate") for name, batch in each.items()}
    assert all(torch.equal(losses[name].sum, again[name].sum) for name in each)
    together = {name: measured(batch) for name, batch in each.items()}
    other = {name: 2 * float(together[name].sum) - float(losses[name].sum) for name in each}
    assert all(value > 0 for value in other.values())
    with first_alone():
        ones = {name: float(measured(batch).sum) for name, batch in each.items()}
    drawn = {name: math.isclose(float(losses[name].sum), ones[name], rel_tol=1e-5) for name in each}
    assert set(drawn.values()) == {True, False}
    for name, is_one in drawn.items():
        assert (losses[name].sum if is_one else other[name]) == pytest.approx(ones[name], rel=1e-4)
    assert torch.equal(measured(each["a"], models="alternate").sum, together["a"].sum)


def test_an_objective_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is trained"):
        AnswersConfig.parse({"kind": "answers", "answer": 0.0}, "objective")
    AnswersConfig.parse({"kind": "answers", "answer": 0.0, "pretrain": 1.0}, "objective")


class StoppedError(RuntimeError):
    """Ends a training as a crash would."""


class Breaking(Stream):
    def __next__(self) -> QuestionBatch:
        if self.position == 7:
            raise StoppedError
        return super().__next__()


BOTH = AnswersConfig(pretrain=0.25, distill=0.5, models="alternate")


def trainer(
    out: Path, stream: Stream, objective: AnswersConfig = BOTH, config: SoftPromptConfig | None = None, lr: float = 1e-2
) -> Trainer:
    config = config or soft_prompt(bits="int8", two=True)
    torch.manual_seed(1)
    plain = {"kind": "adamw", "weight_decay": 0.0}
    told = TrainingConfig.parse({"steps": stream.steps, "tokens_per_step": 60, "lr": lr, "optimizer": plain}, "training")
    return Trainer(
        config.build(Info()), stream, told, out, objective=objective.build(), seed=2, identity={"configuration": "one"},
        flops=functools.partial(config.batch_flops, 1), reporting=Reporting(log_every=1, checkpoint_every=5),
    )  # fmt: skip


def learnt(out: Path, key: str) -> float:
    """What the last quarter of the steps has of the first quarter's mean."""
    values = [json.loads(line)[key] for line in (out / "metrics.jsonl").read_text().splitlines()]
    quarter = len(values) // 4
    return sum(values[-quarter:]) / sum(values[:quarter])


@pytest.mark.parametrize("kind", ["pointer", "byte_resampler"])
def test_answers_are_learnt(kind: str, tmp_path: Path) -> None:
    """A random model hears little of its prompt: much of it is soft here."""
    config = soft_prompt(kind, n_vectors=24, prompt={"n_shots": 0})
    trainer(tmp_path, Stream(32), AnswersConfig(n_tokens=2), config, lr=0.03).fit()
    assert learnt(tmp_path, "nll") < 0.9


def test_words_are_learnt_to_be_kept(tmp_path: Path) -> None:
    trainer(tmp_path, Stream(32), AnswersConfig(pretrain=1.0), soft_prompt(n_vectors=8), lr=0.02).fit()
    assert learnt(tmp_path, "reconstruction") < 0.8


def test_a_training_resumes_bit_for_bit_and_saves_what_it_trained(tmp_path: Path) -> None:
    steps = 24
    whole = trainer(tmp_path / "whole", Stream(steps))
    frozen = {name: p.clone() for name, p in whole.model.named_parameters() if not p.requires_grad}
    before = {name: p.clone() for name, p in whole.model.named_parameters() if p.requires_grad}
    whole.fit()
    with pytest.raises(StoppedError):
        trainer(tmp_path / "stopped", Breaking(steps)).fit()
    resumed = trainer(tmp_path / "stopped", Stream(steps))
    assert resumed.fit()["resumed_at"] == 5
    trained, again = whole.model.trained_state(), resumed.model.trained_state()
    assert {name for name in trained if not torch.equal(trained[name], again[name])} == set()

    assert {name for name in before if torch.equal(trained[name], before[name])} == set(), "a parameter was left out"
    assert all(torch.equal(p, frozen[name]) for name, p in whole.model.named_parameters() if name in frozen)

    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    measured_at = {key: [row["step"] for row in rows if row[key] is not None] for key in ("nll", "reconstruction")}
    assert measured_at == {"reconstruction": list(range(1, 7)), "nll": list(range(7, 25))}
    assert all(row["mfu"] > 0 for row in rows)

    save_weights(whole.model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(before)
    loaded = soft_prompt(bits="int8", two=True).build(Info())
    load_weights(loaded, tmp_path / "model.safetensors")
    documents = [question.document for question in BATCH.questions]
    with torch.no_grad():
        assert_close(loaded.eval().wire(documents), whole.model.eval().wire(documents), rtol=0, atol=0)
