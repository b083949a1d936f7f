"""Questions from the hub, or from a local folder that `datasets` reads: SQuAD, HotpotQA and what has such columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field

from ripstop.config import ConfigError, Strict
from ripstop.data.base import one_line
from ripstop.data.hub import SplitNames
from ripstop.data.question import Question
from ripstop.data.squad import place
from ripstop.provenance import digest


class QuestionColumns(Strict):
    """What the dataset calls each column. title, id: none given: rows have none, and each is an article of its own."""

    question: str = "question"
    context: str = Field("context", description="text, a list of texts, or HotpotQA's titles with lists of sentences")
    answers: str = Field("answers", description="text, a list of texts, or SQuAD's mapping with a list `text`")
    title: str | None = "title"
    id: str | None = "id"


class HubQuestions(Strict):
    """A dataset of rows with one question each: `rajpurkar/squad`, or `hotpotqa/hotpot_qa` with the name `distractor`."""

    path: str = Field(min_length=1, description="name on the hub, or a local folder that `datasets` reads")
    name: str | None = Field(None, description="the dataset's configuration")
    revision: str | None = Field(None, description="commit or tag, on the hub")
    splits: SplitNames = SplitNames(test="validation")
    split_train: bool = Field(True, description="valid is a tenth of the articles of train, and `splits.valid` is not read")
    columns: QuestionColumns = QuestionColumns()
    streaming: bool = Field(False, description="row by row, and not downloaded before")
    most_rows: int | None = Field(None, ge=1, description="the first ones of each split; none given: all")


def questions(config: HubQuestions, split: str) -> Iterator[Question]:
    """The questions of "train", "valid" or "test" in the dataset's order; rows without an answer are left out.

    `ConfigError` names the dataset and the row that holds something else, or why it cannot be loaded.
    """
    name = getattr(config.splits, split)
    where = f"dataset {config.path!r}, split {name!r}"
    for number, row in enumerate(_rows(config, name, where)):
        if number == config.most_rows:
            return
        try:
            question = _question(config.columns, row, f"{split}/{number}")
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{where}: row {number} has no question, context and answers as data.source.columns says ({error!r}), only "
                f"{', '.join(map(str, row))}; set data.source.columns"
            ) from None
        if question is not None:
            yield question


def _question(columns: QuestionColumns, row: dict[str, Any], number: str) -> Question | None:
    given = row[columns.answers]
    answers = tuple(
        dict.fromkeys(" ".join(text.split()) for text in _texts(given["text"] if isinstance(given, dict) else given))
    )
    if not answers:
        return None
    context = " ".join(_context(row[columns.context]))
    document = " ".join(context.split())
    title = number if columns.title is None else str(row[columns.title])
    told = given.get("answer_start") if isinstance(given, dict) else None
    start = place(context, answers[0], told[0] if told else 0)
    name = number if columns.id is None else str(row[columns.id])
    asked = " ".join(row[columns.question].split())
    return Question(name, f"{title}#{digest(document)[:12]}", title, document, asked, answers, start, "hub")


def _context(value: Any) -> list[str]:
    """The texts of a context, whichever way it is written."""
    if isinstance(value, dict):
        value = list(zip(value["title"], value["sentences"], strict=True))
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return [f"{title}: {''.join(_texts(pieces))}" for title, pieces in value]
    return _texts(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _rows(config: HubQuestions, split: str, where: str) -> Iterable[dict[str, Any]]:
    import datasets  # takes seconds, and only prepare needs it

    try:
        yield from datasets.load_dataset(
            config.path, config.name, split=split, revision=config.revision, streaming=config.streaming
        )
    except Exception as error:  # whatever the loader of a dataset, the network, the cache or its disk can raise
        raise ConfigError(
            f"{where}: cannot be loaded ({one_line(error)}); check data.source and its cache (HF_HOME), or load it once "
            "where there is a network"
        ) from error
