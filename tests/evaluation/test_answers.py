"""Questions asked of soft prompts and of texts: every row against the frozen model asked directly, and what files keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from evaluation.asked_runs import Asked, built, prepared

from ripstop.config import ConfigError
from ripstop.data.question import texts
from ripstop.evaluation.answered import Answered, asked, measured, read_answers
from ripstop.evaluation.answers import AnswersConfig, wires
from ripstop.evaluation.asking import place
from ripstop.evaluation.squad_scores import exact_match
from ripstop.evaluation.text_answers import TextAnswersConfig
from ripstop.evaluation.wire_ceiling import WireCeilingConfig, first_tokens
from ripstop.evaluation.wire_controls import swapped, wrong_of
from ripstop.frozen.scoring import score
from ripstop.records import Measurement
from ripstop.wire.quantize import WireFormat, n_bytes

PROMPTS = ["own", "wrong", "shuffled", "zero", "random", "swapped", "beside"]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield prepared(folder)


def value(made: list[Measurement], metric: str, **where: object) -> float:
    (found,) = [m.value for m in made if m.metric == metric and all(m.slice.get(k) == v for k, v in where.items())]
    return found


def directly(given: Asked, rows: list[Answered], pieces: torch.Tensor | None, documents: list[str | None]) -> list[float]:
    """The loss of each row's question, asked by hand; pieces: of each question the soft prompt."""
    model = built(given)
    builder, questions = model.builders["first"], {question.id: question for question in given.questions}
    order = [questions[row.question] for row in rows]
    at = [given.questions.index(question) for question in order]
    prompts = [
        builder.text(q.question, documents[i]) if pieces is None else builder.soft(q.question, pieces[i], documents[i])
        for q, i in zip(order, at, strict=True)
    ]
    gold = [builder.answer_ids(question.answers[0]) for question in order]
    return [found.nll for found in score(model.lms["first"], builder, prompts, gold)]


@torch.inference_mode()
def test_every_wire_is_read_as_it_should_be(given: Asked, tmp_path: Path) -> None:
    made = given.measured(AnswersConfig.parse({"prompts": PROMPTS, "formats": ["int4", "fp16"]}, "part"), tmp_path)
    rows, model, questions = read_answers(tmp_path), built(given), given.questions
    nothing: list[str | None] = [None] * len(questions)
    z_QMZ = wires(model, questions, 3)
    for prompt, z in (("own", z_QMZ), ("wrong", z_QMZ[wrong_of(questions)]), ("zero", torch.zeros_like(z_QMZ))):
        found = asked(rows, prompt, "first")
        expected = directly(given, found, torch.stack(list(model.soft(z, "first"))), nothing)
        assert [row.nats for row in found] == pytest.approx(expected, abs=2e-4), prompt
    beside = asked(rows, "beside", "first")
    expected = directly(given, beside, torch.stack(list(model.soft(z_QMZ, "first"))), [q.document for q in questions])
    assert [row.nats for row in beside] == pytest.approx(expected, abs=2e-4)
    losses = {prompt: value(made, "answer_nll", prompt=prompt, format="none", questions="all") for prompt in PROMPTS[:-2]}
    assert len({round(loss, 5) for loss in losses.values()}) == 5
    own = asked(rows, "own", "first")
    assert losses["own"] == pytest.approx(sum(row.nats for row in own) / sum(row.tokens for row in own))
    assert value(made, "answer_nll", prompt="own", format="fp16", questions="all") == pytest.approx(losses["own"], abs=0.02)
    assert asked(rows, "own", "first", "int4") != asked(rows, "own", "first", "fp16")
    for bits in ("int4", "fp16"):
        each = n_bytes(WireFormat(bits=bits, n_vectors=4, width=16))  # type: ignore[arg-type]
        assert value(made, "context_bytes", coding=bits) == each * len(texts(questions))
    assert all(row.written is None for row in rows if row.prompt != "own" or row.format != "none")
    right = [float(exact_match(row.written or "", [row.gold])) for row in own]
    assert [row.exact_match for row in own] == right and all(row.written is not None for row in own)


@torch.inference_mode()
def test_a_swapped_answer_is_asked_after_the_wire_of_its_own_document(given: Asked, tmp_path: Path) -> None:
    made = given.measured(AnswersConfig(prompts=["swapped"], written=[]), tmp_path)
    rows, questions = read_answers(tmp_path), given.questions
    changed = swapped(questions)
    assert len(changed) == len(questions)
    before, other = asked(rows, "swapped", "first"), asked(rows, "swapped_other", "first")
    golds = {questions[i].id: (questions[i].answers[0], question.answers[0]) for i, question in changed}
    assert [(a.gold, b.gold) for a, b in zip(before, other, strict=True)] == [golds[row.question] for row in before]
    assert all(row.written is None for row in rows)
    share = sum(b.nats / b.tokens < a.nats / a.tokens for a, b in zip(before, other, strict=True)) / len(before)
    assert value(made, "swap_followed", end="value") == pytest.approx(share)
    assert {m.slice.get("prompt") for m in made if m.metric == "answer_nll"} == {"swapped"}


def test_a_constant_wire_is_every_documents(given: Asked, tmp_path: Path) -> None:
    given.measured(AnswersConfig(prompts=["own", "wrong", "shuffled"], written=[]), tmp_path, "constant")
    rows = read_answers(tmp_path)
    nats = [[row.nats for row in asked(rows, prompt, "first")] for prompt in ("own", "wrong", "shuffled")]
    assert nats[1] == pytest.approx(nats[0], abs=1e-4) and nats[2] == pytest.approx(nats[0], abs=1e-4)


@torch.inference_mode()
def test_texts_whole_cut_and_left_out(given: Asked, tmp_path: Path) -> None:
    settings = {
        "formats": ["int4"],
        "sizes": [9],
        "swapped": ["second"],
        "n_joint": 4,
        "n_coded": 2,
        "n_decoded": 2,
        "n_aligned": 3,
    }
    made = given.measured(TextAnswersConfig.parse(settings, "part"), tmp_path, "constant", two=True)
    rows, model, questions = read_answers(tmp_path), built(given), given.questions
    lm, size = model.lms["first"], n_bytes(WireFormat(bits="int4", n_vectors=4, width=16))
    whole: list[str | None] = [question.document for question in questions]
    for prompt, documents in (("text", whole), ("closed", [None] * len(questions))):
        found = asked(rows, prompt, "first")
        assert [row.nats for row in found] == pytest.approx(directly(given, found, None, documents), abs=2e-4), prompt
    shortest = min(len(lm.encode(q.document.split()[0])) for q in questions)
    cut = value(made, "context_bytes", reader="first", prompt="cut_tokens")
    assert shortest <= 4 and 0 < cut <= 4 * 8 * len(texts(questions))
    cut = value(made, "context_bytes", reader="first", prompt="cut_bytes", format=str(size))
    assert 0.5 * size * len(texts(questions)) < cut <= size * len(texts(questions))
    assert 0 < value(made, "context_bytes", reader="first", prompt="cut_bytes", format="9") <= 9 * len(texts(questions))
    assert value(made, "context_bytes", reader="first", prompt="text") == sum(len(t.encode()) for t in texts(questions))
    assert value(made, "context_bytes", reader="first", prompt="closed") == 0
    for reader in ("first", "second"):
        assert value(made, "alignment_gap", reader=reader) < 1e-4
        sizes = [value(made, "coded_bytes", reader=reader, coding=coding) for coding in ("utf8", "arithmetic")]
        assert 0 < sizes[0] < 200 and 0 < sizes[1] < 1.5 * sizes[0]
        nats = [value(made, "answer_nll", reader=reader, prompt=p, questions="all") for p in ("closed", "text")]
        gained = value(made, "loss_gain", reader=reader, over="closed", questions="all", end="value")
        assert gained == pytest.approx(nats[0] - nats[1])
    of_some = [m for m in made if m.slice.get("questions") == "joint"]
    assert {m.slice["reader"] for m in of_some} == {"joint", "first", "second"} and {m.n for m in of_some} == {4}
    assert {row.reader for row in rows if row.prompt == "swapped"} == {"second"}


def test_what_both_models_write_is_weighed_by_both(given: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that write the answer, or something else: whichever both find likelier is chosen."""
    from ripstop.evaluation import asking

    def rows(reader: str, text: str) -> list[Answered]:
        return [Answered(q.id, q.document_id, q.group, "inside", reader, "text", "none", q.answers[0], 1.0, 1, True, True,
                         q.answers[0] if text == "right" else text, 1.0, 1.0) for q in given.questions]  # fmt: skip

    def likelihoods(
        lm: str, builder: object, prompts: object, candidates: list[list[str]], batch_size: int
    ) -> list[list[float]]:
        nats = {"a": {"nonsense": -1.0, "right": -1.5}, "b": {"nonsense": -2.5, "right": -1.5}}[lm]
        return [[nats["nonsense" if text == "nonsense" else "right"] for text in row] for row in candidates]

    monkeypatch.setattr(asking, "log_likelihoods", likelihoods)
    both = [*rows("first", "nonsense"), *rows("second", "right")]
    lms = {"first": "a", "second": "b"}
    prompts = {reader: (None, []) for reader in lms}
    found = list(asking.joint_scores(lms, prompts, given.questions, both, "text", 4))  # type: ignore[arg-type]
    # nonsense: -1 - 2.5; the answer: -1.5 - 1.5
    scores = {(m.slice["reader"], m.metric): m.value for m in found}
    assert scores["joint", "exact_match"] == scores["joint", "f1"] == scores["second", "f1"] == 1.0
    assert scores["first", "exact_match"] == 0.0


def test_optimised_vectors_answer_better_than_what_they_start_from(given: Asked, tmp_path: Path) -> None:
    part = WireCeilingConfig(n_optimised=4, steps=12, lr=0.3)
    made = given.measured(part, tmp_path, "constant")
    questions = {question.id: question for question in given.questions}
    rows, model = read_answers(tmp_path), built(given)
    lm, builder = model.lms["first"], model.builders["first"]
    chosen = [questions[row.question] for row in rows]
    prompts = [builder.soft(q.question, first_tokens(lm, q.document, 4)) for q in chosen]
    start = score(lm, builder, prompts, [builder.answer_ids(q.answers[0]) for q in chosen])
    assert sum(row.nats for row in rows) < 0.9 * sum(found.nll for found in start)
    assert {row.prompt for row in rows} == {"ceiling"} and len(rows) == 4
    gained = value(made, "loss_gain", prompt="ceiling", over="text", questions="all", end="value")
    text = score(
        lm, builder, [builder.text(q.question, q.document) for q in chosen], [builder.answer_ids(q.answers[0]) for q in chosen]
    )
    tokens = sum(row.tokens for row in rows)
    assert gained == pytest.approx((sum(f.nll for f in text) - sum(row.nats for row in rows)) / tokens, abs=1e-3)
    assert not any(p.grad is not None or p.requires_grad for p in lm.parameters())


def test_a_text_with_fewer_tokens_than_vectors_begins_again(given: Asked) -> None:
    lm = built(given).lms["first"]
    ids = lm.encode("ab")
    assert torch.equal(first_tokens(lm, "ab", 5), lm.embed((ids * 5)[:5]))


def test_where_an_answer_lies(given: Asked) -> None:
    lm, question = built(given).lms["first"], given.questions[0]
    assert question.start == 0
    n = len(lm.encode(question.answers[0]))
    assert (place(lm, question, n), place(lm, question, n - 1)) == ("inside", "outside")


def test_measures_of_rows_by_hand() -> None:
    def row(i: int, place: str, nats: float, tokens: int, **more: object) -> Answered:
        values = {"written": "x", "exact_match": float(i), "f1": i / 2, **more}
        way = (place, "first", "own", "none", "g")
        return Answered(str(i), "d", "cloze", *way, nats, tokens, i > 0, False, **values)  # type: ignore[arg-type]

    made = list(measured([row(0, "inside", 2.0, 1), row(1, "outside", 1.0, 3)]))
    assert value(made, "answer_nll", questions="all") == pytest.approx(3 / 4)
    assert value(made, "answer_nll", questions="outside") == pytest.approx(1 / 3)
    assert value(made, "first_accuracy", questions="all") == 0.5 and value(made, "forced_match", questions="all") == 0
    assert value(made, "exact_match", questions="group:cloze") == 0.5 and value(made, "f1", questions="outside") == 0.5
    unwritten = list(measured([row(0, "inside", 2.0, 1, written=None, exact_match=None, f1=None)]))
    assert {m.metric for m in unwritten} == {"answer_nll", "first_accuracy", "forced_match"}


def test_what_cannot_be_asked(given: Asked, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither these nor formats name anything to ask with"):
        given.subject(AnswersConfig(prompts=[], written=[]), tmp_path)
    with pytest.raises(ConfigError, match="n_joint: what two models write is weighed; name a second one"):
        given.subject(TextAnswersConfig(n_joint=2), tmp_path)
    with pytest.raises(ConfigError, match="swapped: 'frist' is no model of the run; did you mean 'first'"):
        given.subject(TextAnswersConfig(swapped=["frist"]), tmp_path)
    (tmp_path / "answers.jsonl").write_text('{"question": 1}\n')
    with pytest.raises(ConfigError, match="holds no answers .*; evaluate this part of its run again"):
        read_answers(tmp_path)
