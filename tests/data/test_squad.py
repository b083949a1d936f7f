"""Files in SQuAD's format and datasets of the hub (local ones, which `datasets` reads alike), through the data kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ripstop.config import ConfigError
from ripstop.data.hub_questions import HubQuestions
from ripstop.data.hub_questions import questions as hub_questions
from ripstop.data.introductions import split_of
from ripstop.data.questions import QuestionsConfig
from ripstop.data.squad import questions


def qa(name: str, question: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"id": name, "question": question, "answers": [{"text": t, "answer_start": s} for t, s in answers], **more}


CONTEXT = "Rome, Rome.\n It  rose in Rome\u00a0by the Tiber."
QAS = [
    qa("1", "Where did  it rise?", ("Rome", 25), ("in Rome", 22), ("Rome", 0)),
    qa("2", "By what?", ("the\nTiber", 33)),
    qa("3", "Never?", is_impossible=True),
]


def write(path: Path, articles: dict[str, list[dict[str, Any]]]) -> Path:
    data = [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()]
    path.write_text(json.dumps({"version": "1.1", "data": data}))
    return path


def paragraph(n: int, context: str = "") -> dict[str, Any]:
    return {"context": context or f"Number {n} is a word.", "qas": [qa(f"q{n}", "Which?", (str(n), 7))]}


def test_white_space_is_tidied_and_places_follow(tmp_path: Path) -> None:
    first, second = questions(write(tmp_path / "a.json", {"Rome": [{"context": CONTEXT, "qas": QAS}]}))
    assert first.document == "Rome, Rome. It rose in Rome by the Tiber."
    assert first.answers == ("Rome", "in Rome") and first.question == "Where did it rise?"
    assert first.start == 23  # the third Rome, and not the first
    assert second.answers == ("the Tiber",) and second.document[second.start or 0 :] == "the Tiber."
    assert (first.id, first.title, first.document_id, first.kind) == ("1", "Rome", "Rome#0", "squad")


def test_an_answer_that_does_not_stand_there_has_no_place(tmp_path: Path) -> None:
    row = qa("1", "?", ("Paris", 3))
    (found,) = questions(write(tmp_path / "a.json", {"Rome": [{"context": CONTEXT, "qas": [row]}]}))
    assert found.start is None


def one(row: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"paragraphs": [{"context": "c", "qas": [row]}]}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not in the format of SQuAD"),
        ("[]", "is not in the format of SQuAD"),
        ('{"data": [{"title": "x"}]}', "the first article, or what comes next, is not in .* .lacks 'paragraphs'"),
        ('{"data": [3]}', "the first article, or what comes next, is not in the format"),
        ("\xe9", r"a.json:1: not UTF-8 text; save the file as UTF-8$"),
        (json.dumps(one(qa("7", "?"))), "question '7', or what comes next, has no answer and is not marked `is_impossible`"),
        (json.dumps(one({"id": "7", "question": "?"})), "question '7', or what comes next, is not .*lacks 'answers'"),
    ],
)  # fmt: skip
def test_faults_name_file_and_question(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=message) as caught:
        list(questions(tmp_path / "a.json"))
    assert str(caught.value).startswith(str(tmp_path / "a.json")) and "\n" not in str(caught.value)


def test_prepared_by_article_and_no_tested_document_is_trained_on(tmp_path: Path) -> None:
    articles = {f"Article {n}": [paragraph(2 * n), paragraph(2 * n + 1)] for n in range(40)}
    articles["Copy"] = [paragraph(900, "Twice here.")]
    train = write(tmp_path / "train.json", articles)
    test = write(tmp_path / "test.json", {"Other": [paragraph(901, "Twice here."), paragraph(902)]})
    config = QuestionsConfig.parse({"source": {"train": str(train), "test": str(test)}}, "data")
    assert config.local_files() == [train, test]
    config.prepare(tmp_path / "data")
    titles = {split: {q.title for q in config.questions(tmp_path / "data", split)} for split in ("train", "valid", "test")}
    assert titles["valid"] == {f"Article {n}" for n in range(40) if split_of(f"Article {n}") == "valid"} != set()
    assert titles["train"] == {f"Article {n}" for n in range(40)} - titles["valid"] and titles["test"] == {"Other"}
    told = json.loads((tmp_path / "data" / "data.json").read_text())
    assert [told["splits"][split]["left_out_document_held_out"] for split in ("train", "valid", "test")] == [0, 1, 0]
    assert set(told["local_files"]) == {"train.json", "test.json"}
    train.write_text(train.read_text() + " ")
    with pytest.raises(ConfigError, match="was edited after the data"):
        config.verify(tmp_path / "data")


def test_no_document_that_is_validated_on_is_trained_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.json", {"A": [paragraph(1), paragraph(2)]})
    again = {**paragraph(2), "qas": [qa("other", "Which one?", ("2", 7))]}
    valid = write(tmp_path / "valid.json", {"B": [again, paragraph(3)]})
    test = write(tmp_path / "test.json", {"C": [paragraph(4)]})
    source = {"train": str(train), "valid": str(valid), "test": str(test)}
    config = QuestionsConfig.parse({"source": source}, "data")
    config.prepare(tmp_path / "data")
    assert [q.id for q in config.questions(tmp_path / "data", "train")] == ["q1"]
    assert [q.id for q in config.questions(tmp_path / "data", "valid")] == ["other", "q3"]


def test_no_distractor_answers_another_question_on_the_document(tmp_path: Path) -> None:
    """Of twelve articles every other one has the answer to the second question on the first."""
    articles = {f"Article {n}": [paragraph(n, f"Number {n} is {'blue' if n % 2 else 'red'}.")] for n in range(100, 112)}
    articles["Article 101"][0]["qas"].append(qa("colour", "Which colour?", ("blue", 14)))
    train = write(tmp_path / "train.json", articles)
    rest = {split: write(tmp_path / f"{split}.json", {split: [paragraph(n)], f"{split} 2": [paragraph(n + 1)], f"{split} 3": [
        paragraph(n + 2)]}) for n, split in ((20, "valid"), (30, "test"))}  # fmt: skip
    source = {"train": str(train), **{split: str(path) for split, path in rest.items()}}
    config = QuestionsConfig.parse({"source": source, "distractors": 2}, "data")
    config.prepare(tmp_path / "data")
    asked = [q for q in config.questions(tmp_path / "data", "train") if q.title == "Article 101"]
    assert {q.id for q in asked} == {"q101", "colour"} and all(q.document.count("blue") == 1 for q in asked)


def test_a_validation_file_of_its_own(tmp_path: Path) -> None:
    paths = {
        split: str(write(tmp_path / f"{split}.json", {split: [paragraph(n)]}))
        for n, split in enumerate(("train", "valid", "test"))
    }
    config = QuestionsConfig.parse({"source": paths}, "data")
    config.prepare(tmp_path / "data")
    assert [config.questions(tmp_path / "data", split)[0].title for split in ("train", "valid", "test")] == [
        "train",
        "valid",
        "test",
    ]


def test_a_missing_file_and_a_doubled_id_are_named(tmp_path: Path) -> None:
    train = write(tmp_path / "train.json", {"a": [paragraph(1)]})
    config = QuestionsConfig.parse({"source": {"train": str(train), "test": str(tmp_path / "no.json")}}, "data")
    with pytest.raises(ConfigError, match=r"data.source.test: .*no.json is no file; correct it"):
        config.prepare(tmp_path / "data")
    test = write(tmp_path / "test.json", {"b": [paragraph(1)]})
    config = QuestionsConfig.parse({"source": {"train": str(train), "test": str(test)}}, "data")
    with pytest.raises(ConfigError, match="two questions have the id 'q1'"):
        config.prepare(tmp_path / "data")


def test_files_that_cannot_be_prepared_say_why(tmp_path: Path) -> None:
    def refused(said: str, train: Path, test: Path) -> None:
        source = {"train": str(train), "test": str(test)}
        with pytest.raises(ConfigError, match=said):
            QuestionsConfig.parse({"source": source}, "data").prepare(tmp_path / "data")
        assert not (tmp_path / "data" / "data.json").exists()

    some = write(tmp_path / "some.json", {f"Article {n}": [paragraph(n)] for n in range(40)})
    few = write(tmp_path / "few.json", {"Article 0": [paragraph(900)]})
    none = write(tmp_path / "none.json", {})
    copies = {"Copy": [{**paragraph(n), "qas": [qa(f"copy {n}", "Which?", (str(n), 7))]} for n in range(40)]}
    copy = write(tmp_path / "copy.json", copies)
    half = write(tmp_path / "half.json", {"Article": [paragraph(901, "Half of \ud83d is no character.")]})
    (tmp_path / "other").mkdir()
    namesake = write(tmp_path / "other" / "some.json", {"Other": [paragraph(902)]})
    refused("split 'test' has no question; name a source with more articles", some, none)
    refused("split 'valid' has no question", few, namesake)
    refused("every question of split 'train' is on a document that is held out; name other files", some, copy)
    refused("some.json: another file of the data is called some.json too; rename one", some, namesake)
    refused(
        r"test.jsonl: cannot be written, a text holds '.ud83d', half of a character .* behind '.*Half of '; cor", some, half
    )


SQUAD_ROW = {
    "id": "s1",
    "title": "Rome",
    "context": CONTEXT,
    "question": "Where?",
    "answers": {"text": ["Rome", "Rome"], "answer_start": [25, 0]},
}
HOTPOT_ROW = {
    "id": "h1", "question": "Which river?", "answer": "Tiber",
    "context": {"title": ["Rome", "Po"], "sentences": [["It is old.", " It lies on the Tiber."], ["A river."]]},
}  # fmt: skip


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def dataset(folder: Path, **splits: list[dict[str, Any]]) -> str:
    folder.mkdir()
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_squad_and_hotpot_by_their_columns(own_cache: None, tmp_path: Path, streaming: bool) -> None:
    path = dataset(
        tmp_path / "squad", train=[SQUAD_ROW, {**SQUAD_ROW, "id": "s2", "answers": {"text": [], "answer_start": []}}]
    )
    (found,) = hub_questions(HubQuestions(path=path, streaming=streaming), "train")
    assert (found.id, found.title, found.answers, found.start) == ("s1", "Rome", ("Rome",), 23)
    path = dataset(tmp_path / "hotpot", train=[HOTPOT_ROW] * 3)
    columns = {"answers": "answer", "title": None}
    config = HubQuestions.parse({"path": path, "columns": columns, "streaming": streaming, "most_rows": 2}, "x")
    first, second = hub_questions(config, "train")
    assert first.document == "Rome: It is old. It lies on the Tiber. Po: A river."
    assert first.document[first.start or 0 :].startswith("Tiber") and first.title == "train/0" != second.title


def test_columns_that_are_not_there_are_told_with_those_that_are(own_cache: None, tmp_path: Path) -> None:
    path = dataset(tmp_path / "d", train=[HOTPOT_ROW])
    with pytest.raises(
        ConfigError, match="row 0 has no question, context and answers .*KeyError.*only id, question, answer, context"
    ):
        list(hub_questions(HubQuestions(path=path), "train"))
    with pytest.raises(ConfigError, match=r"split 'validation': cannot be loaded .*; check data.source"):
        list(hub_questions(HubQuestions(path=path), "test"))
