"""Trivia questions that people wrote, each with an introduction that answers it: a test of what was not made by our patterns.

`trivia.csv` names the questions by their list and their number in it (from 1 on), and the article. It was made in two steps:
`trivia_candidates.py` finds for each question the introduction that shares most of its words and holds an answer, 555 in all;
then every candidate was read, and those 448 stayed that a reader who knows nothing but the introduction can answer from it. Out
are questions whose fact the introduction does not state (most often the answer stands there in another matter), answers that
have changed since (capitals), riddles about letters, and the second of two questions that ask the same. Twelve have another
article than the candidate had, one that answers as well or better.

The questions are Red-Trivia's (GPL-3.0), which is why they stand in its package and not here. They are for testing alone: their
articles are kept out of training, see `questions.py`.
"""

from __future__ import annotations

import csv
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ripstop import yaml_file
from ripstop.config import ConfigError
from ripstop.data.base import one_line
from ripstop.data.question import Question
from ripstop.data.registry import Package
from ripstop.files import read_text

RED_TRIVIA = Package(
    name="red-trivia",
    version="1.1.1",
    filename="Red-Trivia-1.1.1.tar.gz",
    sha256="39413b9fb3f9b9362d6de1dcf69a4bf635b0f3518243f7178299b96d26cbb6a7",
    license="GPL-3.0",
    note="trivia questions with their answers, in lists",
)
LISTS = (
    "general", "artandliterature", "greekmyth", "worldcapitals", "uscapitals", "sports", "entertainment", "computers",
)  # fmt: skip
CURATED = Path(__file__).with_name("trivia.csv")


class Asked(NamedTuple):
    """A question of a list. number: its place there, from 1 on."""

    list: str
    number: int
    question: str
    answers: tuple[str, ...]


def asked(archive: Path) -> Iterator[Asked]:
    """Every question of `LISTS` in their order; pictures are out. `ConfigError` where the archive is none of Red-Trivia."""
    try:
        with tarfile.open(archive) as packed:
            members = {Path(member.name).stem: member for member in packed if member.name.endswith(".yaml")}
            for name in LISTS:
                file = packed.extractfile(members[name])
                assert file is not None, f"{name} is no file"
                for number, (question, answers) in enumerate(
                    yaml_file.parse(file.read().decode(), f"{archive}: {name}.yaml").items(), 1
                ):
                    if isinstance(answers, list) and "http" not in str(question):
                        yield Asked(name, number, " ".join(str(question).split()), tuple(map(str, answers)))
    except (
        KeyError,
        AttributeError,
        UnicodeDecodeError,
        EOFError,
        OSError,
        zlib.error,
        tarfile.TarError,
    ) as error:
        raise ConfigError(f"{archive}: holds no trivia lists ({one_line(error)}); it is not the package we read") from None


def stands(text: str, answers: tuple[str, ...]) -> tuple[str, int] | None:
    """The first answer that the text holds, as it is written there, and where; None: it holds none.

    Words count and no punctuation (J.K. Rowling, J. K. Rowling); of the same answer, one in the same case comes first.
    """
    for answer in answers:
        words = re.findall(r"[^\W_]+", answer)
        pattern = r"(?<!\w)" + r"[\W_]{1,3}".join(map(re.escape, words)) + r"(?!\w)"
        pattern += r"\.?" if answer.endswith(".") else ""
        found = re.search(pattern, text) or re.search(pattern, text, re.IGNORECASE)
        if found and words:
            return found[0], found.start()
    return None


def curated(path: Path) -> dict[tuple[str, int], str]:
    """(list, number) -> title of the article that answers it."""
    rows = csv.DictReader(io.StringIO(read_text(path)))
    try:
        return {(row["list"], int(row["number"])): row["title"] for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: needs the columns list, number and title in every row ({error!r}); correct it") from None


def questions(archive: Path, documents: Mapping[str, str], path: Path | None = None) -> list[Question]:
    """The curated questions on these documents, title -> text; `ConfigError` names one whose answer is not there.

    path: of the list, none given: ours.
    """
    path = CURATED if path is None else path
    kept = curated(path)
    found: list[Question] = []
    for each in asked(archive):
        title = kept.pop((each.list, each.number), None)
        if title is None:
            continue
        place = stands(documents.get(title, ""), each.answers)
        if place is None:
            raise ConfigError(
                f"{path}: question {each.number} of {each.list!r} has no answer in the article {title!r}; take it out"
            )
        answers = tuple(dict.fromkeys([place[0], *each.answers]))
        name = f"trivia/{each.list}/{each.number}"
        found.append(Question(name, title, title, documents[title], each.question, answers, place[1], f"trivia:{each.list}"))
    if kept:
        raise ConfigError(f"{path}: there is no question {kept.popitem()[0]}; take it out of the list")
    return found
