"""Curated trivia: the list in its package and articles, how answers are found, candidates, faults; a real pip for sources."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from data.tiny_packages import trivia_archive

from ripstop.config import ConfigError
from ripstop.data import registry, source_package
from ripstop.data.introductions import WIKI, Introduction, introductions
from ripstop.data.registry import Package
from ripstop.data.trivia import CURATED, LISTS, RED_TRIVIA, Asked, asked, curated, questions, stands
from ripstop.data.trivia_candidates import candidates

CACHED = all((registry.cache_folder() / package.filename).is_file() for package in (WIKI, RED_TRIVIA))


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("Seen in paris, then Paris.", ("Paris",), ("Paris", 20)),  # the same case comes first
        ("Seen in paris.", ("Lyon", "Paris"), ("paris", 8)),
        ("By J. K. Rowling.", ("J.K. Rowling",), ("J. K. Rowling", 3)),
        ("At St Paul's Cathedral", ("St Paul’s",), ("St Paul's", 3)),
        ("A liquid-crystal display", ("Liquid Crystal Display",), ("liquid-crystal display", 2)),
        ("In Washington, D.C., now", ("Washington, D.C.",), ("Washington, D.C.", 3)),
        ("Parisian", ("Paris",), None),
        ("The comparison", ("Paris",), None),
        ("", ("Paris",), None),
        ("Paris", ("...",), None),
        ("milk and Cheese", ("Milk", "Cheese"), ("milk", 0)),  # the first answer, in whatever case
    ],
)
def test_where_an_answer_stands(text: str, answers: tuple[str, ...], expected: tuple[str, int] | None) -> None:
    assert stands(text, answers) == expected


def test_lists_are_numbered_with_what_is_left_out(tmp_path: Path) -> None:
    general = {"One?": ["a"], "See http://x.y/p.png": ["b"], "AUTHOR": "someone", "Four?": [4]}
    found = list(asked(trivia_archive(tmp_path / "t.tar.gz", {"general": general, "sports": {"Five?": ["e"]}})))
    assert found == [
        Asked("general", 1, "One?", ("a",)),
        Asked("general", 4, "Four?", ("4",)),
        Asked("sports", 1, "Five?", ("e",)),
    ]


def test_a_list_that_does_not_hold_is_one_sentence(tmp_path: Path) -> None:
    archive = trivia_archive(tmp_path / "t.tar.gz", {"general": {"Where?": ["Riga"]}})
    path = tmp_path / "list.csv"
    for rows, message in (
        ("general,1,Oslo", r"list.csv: question 1 of 'general' has no answer in the article 'Oslo'; take it out"),
        ("general,1,None", r"has no answer in the article 'None'"),
        ("general,2,Riga", r"list.csv: there is no question \('general', 2\); take it out"),
        ("general,x,Riga", r"list.csv: needs the columns list, number and title"),
        ("general", r"list.csv: needs the columns list, number and title"),
    ):
        path.write_text(f"list,number,title\n{rows}\n")
        with pytest.raises(ConfigError, match=message):
            questions(archive, {"Oslo": "A town.", "Riga": "Riga is a town."}, path)
    for content in (b"", b"\x1f\x8b"):
        (tmp_path / "bad.tar.gz").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad.tar.gz: holds no trivia lists .*; it is not the package we read"):
            list(asked(tmp_path / "bad.tar.gz"))


def test_candidates_hold_an_answer_and_share_rare_words() -> None:
    texts = {
        "Oak": "An oak is a tree that bears acorns.",
        "Squirrel": "A squirrel eats acorns of the oak.",
        "Elm": "An elm is a tree.",
        "Pine": "A pine is a tree.",
    }
    found = [Introduction(title, title, text, "", "") for title, text in texts.items()]
    kept = list(
        candidates([Asked("general", 1, "Which tree bears acorns?", ("Oak",)), Asked("general", 2, "Bears?", ("Fir",))], found)
    )
    assert [(each.number, one.title) for each, one, _ in kept] == [(1, "Oak")]
    assert kept[0][2] == pytest.approx(1.25)  # all of its words, and the article is the answer
    assert list(candidates([Asked("general", 1, "Which beast fells a tree?", ("Oak",))], found)) == []


def test_the_list_is_in_order_and_names_each_question_once() -> None:
    rows = CURATED.read_text(encoding="utf-8").splitlines()
    kept = list(curated(CURATED))
    assert rows[0] == "list,number,title" and len(kept) == len(rows) - 1 == 448
    assert kept == sorted(kept, key=lambda key: (LISTS.index(key[0]), key[1]))


@pytest.mark.skipif(not CACHED, reason="the packages are not in the cache, and this test downloads nothing")
def test_the_curated_questions_are_in_the_real_packages() -> None:
    texts = {one.title: one.text for one in introductions(registry.fetch(WIKI))}
    found = questions(source_package.fetch(RED_TRIVIA), texts)
    assert len(found) == 448 and all(q.document[q.start :].startswith(q.answers[0]) for q in found if q.start is not None)
    assert Counter(q.kind for q in found)["trivia:worldcapitals"] < len(found) / 2
    assert len({(q.question.lower(), q.title) for q in found}) == len(found)


def source_archive(folder: Path, marker: Path) -> Package:
    """A source package whose setup.py leaves a mark where it runs."""
    mark = f"import pathlib\npathlib.Path({str(marker)!r}).write_text('ran')\n"
    setup = f"{mark}from setuptools import setup\nsetup(name='tinysrc', version='1.0')\n"
    path = folder / "tinysrc-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {"setup.py": setup, "PKG-INFO": "Metadata-Version: 1.0\nName: tinysrc\nVersion: 1.0\n"}.items():
            member = tarfile.TarInfo(f"tinysrc-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return Package("tinysrc", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "public domain", "a test")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_another_archive_is_refused_before_its_code_runs(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "false")  # pip's way to say yes: setup.py would run with our setuptools
    marker = index.parent / "ran"
    package = source_archive(index, marker)
    other = Package(*vars(package).values())
    (index / package.filename).write_bytes((index / package.filename).read_bytes() + b"\0" * 512)
    with pytest.raises(
        ConfigError, match=r"tinysrc==1.0 could not be downloaded .*--no-binary=:all: tinysrc==1.0` and put"
    ) as caught:
        source_package.fetch(other)
    assert not marker.exists() and "\n" not in str(caught.value)
    assert [path.name for path in registry.cache_folder().iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.network
def test_the_real_archive_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path))
    assert len(list(asked(source_package.fetch(RED_TRIVIA)))) == 2530


def test_an_archive_that_was_put_into_the_cache_is_verified(index: Path) -> None:
    package = source_archive(index, index.parent / "ran")
    registry.cache_folder().mkdir()
    placed = registry.cache_folder() / package.filename
    placed.write_bytes((index / package.filename).read_bytes())
    assert source_package.fetch(package) == placed
    placed.write_bytes(b"other")
    with pytest.raises(ConfigError, match="is not tinysrc==1.0"):
        source_package.fetch(package)
