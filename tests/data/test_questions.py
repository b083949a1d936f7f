"""Questions as data, end to end on tiny packages and files: splits, limits, other documents around, batches, faults."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from data.tiny_packages import TOWNS, packages  # noqa: F401

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.data import DATA
from ripstop.data.introductions import split_of
from ripstop.data.question import Question, QuestionBatch, read_questions, texts, write_questions
from ripstop.data.question_stream import QuestionStream
from ripstop.data.questions import SPLITS, QuestionsConfig

PLAN = StreamPlan(steps=10, tokens_per_step=400, accumulation=2, seed=3)


def config(**settings: Any) -> QuestionsConfig:
    found = DATA.parse({"kind": "questions", "max_words": 80, **settings})
    assert isinstance(found, QuestionsConfig)
    return found


def prepared(folder: Path, **settings: Any) -> dict[str, list[Question]]:
    data = config(**settings)
    data.prepare(folder)
    data.verify(folder)
    return {split: data.questions(folder, split) for split in SPLITS}


def question(number: int, document: str = "One two three.", **changes: Any) -> Question:
    values = {"title": f"T{number}", "question": "What?", "answers": ("two",), "start": 4, "kind": "squad", **changes}
    return Question(id=str(number), document_id=values["title"], document=document, **values)


def test_introductions_by_article_with_what_people_asked(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    found = prepared(tmp_path / "data")
    assert {split: {q.title for q in of_one} for split, of_one in found.items()} == {
        split: {t["title"] for t in TOWNS if split_of(t["title"], ["Townaa"]) == split} for split in SPLITS
    }
    assert split_of("Townaa") == "train" and split_of("Townaa", ["Townaa"]) == "test"  # tested on, so never trained on
    everything = [q for of_one in found.values() for q in of_one]
    assert len({q.id for q in everything}) == len(everything)
    assert all(q.start is not None and q.document[q.start :].startswith(q.answers[0]) for q in everything)
    of_one = {q.kind: q for q in found["test"] if q.title == "Townaa"}
    assert set(of_one) == {"description", "pattern:population", "cloze", "trivia:general"}
    assert of_one["description"].answers == ("Townaa",) and "“Town number 0”" in of_one["description"].question
    assert of_one["pattern:population"].answers == ("1,100",)
    assert of_one["trivia:general"].answers == ("in the north", "In the North", "north")
    assert of_one["cloze"].question.endswith("Its bridge over the _____ was built in 1500.") and of_one["cloze"].answers == (
        "Amber",
    )
    assert of_one["cloze"].document_id != of_one["description"].document_id
    assert of_one["cloze"].group == "cloze" and of_one["trivia:general"].group == "trivia"


def test_data_json_says_what_is_there_and_whose_it_is(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    found = prepared(tmp_path / "data", trivia=False, kinds=["description"])
    told = json.loads((tmp_path / "data" / "data.json").read_text())
    assert [package["license"] for package in told["origin"]] == ["public domain"]
    for split, of_one in found.items():
        assert told["splits"][split]["questions"] == len(of_one)
        assert told["splits"][split]["groups"] == {"description": len(of_one)}
        assert told["splits"][split]["words"] == sum(q.n_words for q in of_one)
    assert (told["vocab_size"], config().vocab_size(tmp_path / "data")) == (1, 1)
    again = prepared(tmp_path / "again", trivia=False, kinds=["description"])
    assert again == found
    assert json.loads((tmp_path / "again" / "data.json").read_text())["sha256"] == told["sha256"]


def test_limits_take_of_each_group_alike(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    found = prepared(tmp_path / "data", n_train=7, n_valid=2, n_test=3)
    assert len(found["train"]) == 7 and len({q.title for q in found["train"]}) == 7  # at equal distances
    assert Counter(q.group for q in found["valid"]) == {"description": 2, "pattern": 2, "cloze": 2}
    assert Counter(q.group for q in found["test"]) == {"description": 3, "pattern": 3, "cloze": 3, "trivia": 1}


def test_other_documents_around_the_one_that_answers(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    alone = {q.id: q for of_one in prepared(tmp_path / "alone", kinds=["description", "pattern"]).values() for q in of_one}
    found = prepared(tmp_path / "data", kinds=["description", "pattern"], distractors=2, max_words=200)
    places = set()
    for split, of_one in found.items():
        documents = {q.document for q in alone.values() if split_of(q.title, ["Townaa"]) == split}
        for q in of_one:
            inside = sorted((q.document.index(d), d) for d in documents if d in q.document)
            assert len(inside) == 3 and " ".join(d for _, d in inside) == q.document  # whole, and of the same split
            assert q.document[q.start :].startswith(q.answers[0]) and q.start is not None
            place = [d for _, d in inside].index(alone[q.id].document)
            places.add(place)
            assert q.start == inside[place][0] + (alone[q.id].start or 0)  # in its own document, not in another
            others = [d.lower() for n, (_, d) in enumerate(inside) if n != place]
            assert not any(answer.lower() in d for answer in q.answers for d in others)
    assert places == {0, 1, 2}
    with pytest.raises(ConfigError, match="data.distractors: split '[a-z]+' has no 100 documents without an answer .*lower it"):
        prepared(tmp_path / "many", distractors=100, max_words=9000)


def test_shuffled_sentences_move_the_answer_along(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    straight = {q.id: q for q in prepared(tmp_path / "straight")["train"]}
    found = prepared(tmp_path / "data", shuffle_sentences=True)["train"]
    assert {q.id for q in found} == set(straight)
    moved = [q for q in found if q.document != straight[q.id].document]
    assert len(moved) > len(found) / 2
    for q in found:
        assert sorted(q.document) == sorted(straight[q.id].document)
        assert q.start is not None and q.document[q.start :].startswith(q.answers[0])
    same = {}  # questions on a document still ask about the same one
    assert all(same.setdefault(q.document_id, q.document) == q.document for q in found)


def test_what_is_too_long_is_left_out_and_counted(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    everything = prepared(tmp_path / "all")
    limit = sorted(q.n_words for q in everything["train"])[len(everything["train"]) // 2]
    found = prepared(tmp_path / "data", max_words=limit)
    told = json.loads((tmp_path / "data" / "data.json").read_text())["splits"]["train"]
    assert [q for q in everything["train"] if q.n_words <= limit] == found["train"]
    assert told["left_out_too_long"] == len(everything["train"]) - len(found["train"]) > 0
    with pytest.raises(ConfigError, match="no question of split 'train' has at most 8 words; raise data.max_words"):
        prepared(tmp_path / "none", max_words=8)


def test_the_stream_is_a_function_of_seed_and_position(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    train = prepared(tmp_path / "data")["train"]
    data = config()
    stream, n_epoch = data.stream(tmp_path / "data", PLAN), 0
    batches: list[QuestionBatch] = []
    while stream.epoch == 0:
        batches.append(next(stream))
    n_epoch = len(batches) - 1
    assert Counter(q.id for b in batches[:n_epoch] for q in b.questions) == Counter(q.id for q in train)  # each once
    assert all(len(b) * max(q.n_words for q in b.questions) <= 200 for b in batches)  # half a step, since it accumulates
    assert batches[n_epoch] != batches[0]  # the next epoch has an order of its own
    again = data.stream(tmp_path / "data", PLAN)
    again.load_state_dict(json.loads(json.dumps({"epoch": 1, "position": 0})))
    assert next(again) == batches[n_epoch]
    again.load_state_dict({"epoch": 0, "position": 5})
    assert [next(again) for _ in range(n_epoch - 4)] == batches[5:]
    assert again.state_dict() == stream.state_dict() == {"epoch": 1, "position": 1}
    other = data.stream(tmp_path / "data", StreamPlan(steps=10, tokens_per_step=400, accumulation=2, seed=4))
    assert next(other) != batches[0]
    spread = [max(lengths) - min(lengths) for b in batches if len(lengths := [q.n_words for q in b.questions]) > 1]
    assert sum(spread) / len(spread) < 5  # lengths alike; those of all are 17 to 30 words


def test_progress_goes_on_over_epochs_and_ends_at_one() -> None:
    stream = QuestionStream([question(n) for n in range(70)], words=20, seed=0, n_batches=100)
    batches = [next(stream) for _ in range(110)]
    assert stream.epoch >= 5 and [batch.progress for batch in batches] == [min(1.0, n / 100) for n in range(110)]


def test_validation_is_every_question_once_long_ones_first(packages: Path, tmp_path: Path) -> None:  # noqa: F811
    valid = prepared(tmp_path / "data")["valid"]
    batches = list(config().validation(tmp_path / "data", PLAN))
    shown = [q for b in batches for q in b.questions]
    assert Counter(shown) == Counter(valid)
    assert [q.n_words for q in shown] == sorted((q.n_words for q in valid), reverse=True)
    assert batches == list(config().validation(tmp_path / "data", PLAN))


def test_a_batch_too_small_for_a_question_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    small = StreamPlan(steps=1, tokens_per_step=100, accumulation=2, seed=0)
    with pytest.raises(ConfigError, match="a batch of 50 tokens does not hold the longest row, which takes 80"):
        config().stream(tmp_path, small)


def test_what_a_batch_counts() -> None:
    batch = QuestionBatch((question(1), question(2, "One two  three\nfour.", question="What is it?")))
    assert batch.n_tokens == (3 + 1 + 1) + (4 + 3 + 1)
    assert batch.n_targets == len(batch) == 2
    assert batch.to("cpu") is batch
    assert texts([question(1), question(2, "Other."), question(3)]) == ["One two three.", "Other."]


def test_questions_survive_the_disk_and_damage_is_one_sentence(tmp_path: Path) -> None:
    kept = [question(1), question(2, "Größe \u2028 x", answers=("a", "b"), start=None)]
    write_questions(tmp_path / "q.jsonl", kept)
    assert read_questions(tmp_path / "q.jsonl") == kept
    for damage in ('{"id": 1}', "[", '{"answers": 3}', "7"):
        (tmp_path / "bad.jsonl").write_text((tmp_path / "q.jsonl").read_text() + damage + "\n")
        with pytest.raises(ConfigError, match=r"bad.jsonl:3: holds no question .*; prepare the data again") as caught:
            read_questions(tmp_path / "bad.jsonl")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no such file; run `python -m ripstop prepare`"):
        read_questions(tmp_path / "none.jsonl")
