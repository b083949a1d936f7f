"""Questions in the format of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250), from files that the user names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from ripstop.config import ConfigError, Strict
from ripstop.data.base import one_line
from ripstop.data.question import Question
from ripstop.files import read_text


class SquadConfig(Strict):
    """Files of v1.1 or v2.0 (whose questions without an answer are left out), one for each split."""

    train: str = Field(min_length=1)
    test: str = Field(min_length=1)
    valid: str | None = Field(None, min_length=1, description="none given: a tenth of the articles of `train`")

    def local_file(self, split: str) -> Path | None:
        """The file of a split, None where none is named; `ConfigError` where it is not there."""
        name = getattr(self, split)
        if name is None:
            return None
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"data.source.{split}: {path} is no file; correct it, or put the file there")
        return path


def questions(path: Path) -> Iterator[Question]:
    """The questions of a file in their order; `ConfigError` names the question that is not in the format.

    White space becomes single spaces, in the paragraphs as in the answers, and the places of the answers follow.
    """
    try:
        articles = json.loads(read_text(path))["data"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            str(error)
            if isinstance(error, ConfigError)
            else f"{path}: is not in the format of SQuAD, an object with the list `data` ({one_line(error)}); correct it"
        ) from None
    where = "the first article"
    try:
        for article in articles:
            title = article.get("title", "")
            for number, paragraph in enumerate(article["paragraphs"]):
                for row in paragraph["qas"]:
                    where = f"question {row.get('id', row['question'])!r}"
                    if not row.get("is_impossible", False):
                        yield _question(paragraph["context"], row, title, f"{title}#{number}")
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"{path}: {where}, or what comes next, has no answer and is not marked `is_impossible`; mark it, or leave it out"
            if isinstance(error, IndexError)
            else f"{path}: {where}, or what comes next, is not in the format of SQuAD ("
            f"{f'lacks {error}' if isinstance(error, KeyError) else one_line(error)}); correct it"
        ) from None


def _question(context: str, row: dict[str, Any], title: str, document_id: str) -> Question:
    document = " ".join(context.split())
    first = row["answers"][0]
    answers = tuple(dict.fromkeys(" ".join(answer["text"].split()) for answer in row["answers"]))
    start = place(context, answers[0], first["answer_start"])
    return Question(str(row["id"]), document_id, title, document, " ".join(row["question"].split()), answers, start, "squad")


def place(context: str, answer: str, start: int = 0) -> int | None:
    """Where `answer` stands in the context with single spaces: from its character `start` on, else first; None: nowhere."""
    document = " ".join(context.split())
    found = document.find(answer, len(" ".join(context[:start].split())))
    found = document.find(answer) if found < 0 else found
    return None if found < 0 else found
