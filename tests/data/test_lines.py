"""Two text files, line by line: documents where empty lines part them, and one sentence for what is not aligned."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.data import lines
from ripstop.data.documents import DocumentsConfig
from ripstop.data.hub import Document
from ripstop.data.lines import LinesConfig, documents


def write(folder: Path, english: bytes | str, german: bytes | str, split: str = "train") -> LinesConfig:
    for language, content in (("en", english), ("de", german)):
        (folder / f"{split}.{language}").write_bytes(content if isinstance(content, bytes) else content.encode())
    return LinesConfig(lines=str(folder))


def test_documents_in_order(tmp_path: Path) -> None:
    config = write(tmp_path, "One  house.\nTwo.\n\n\nThree.\n", "Ein Haus.\nZwei.\n \n\nDrei.\n\n")
    assert documents(config, "train", "en", "de") == [
        Document("train.en:1", ["One house.", "Two."], ["Ein Haus.", "Zwei."]),
        Document("train.en:5", ["Three."], ["Drei."]),
    ]
    assert documents(config, "train", "de", "en")[1].source == ["Drei."]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85"])
def test_an_unusual_separator_ends_no_line(tmp_path: Path, separator: str) -> None:
    config = write(tmp_path, f"One{separator}house.\nTwo.\n", "Ein Haus.\nZwei.\n")
    assert documents(config, "train", "en", "de")[0].source == ["One house.", "Two."]


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_lines_of_other_systems_and_a_byte_order_mark(tmp_path: Path, ending: str) -> None:
    config = write(tmp_path, "\ufeff" + ending.join(["One.", "Two.", "", "Three."]), "Eins.\nZwei.\n\nDrei.\n")
    assert [d.source for d in documents(config, "train", "en", "de")] == [["One.", "Two."], ["Three."]]


def refused(config: LinesConfig, split: str = "train") -> str:
    with pytest.raises(ConfigError) as caught:
        documents(config, split, "en", "de")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_aligned(tmp_path: Path) -> None:
    assert refused(write(tmp_path, "a\nb\nc\n", "x\ny\n")) == (
        f"{tmp_path}/train.en has 3 lines and {tmp_path}/train.de has 2; they must be aligned line by line"
    )
    found = refused(write(tmp_path, "a\n\nc\n", "x\ny\nz\n"))
    assert found.startswith(f"{tmp_path}/train.en:2: is empty and its translation is not; fill it")
    assert refused(write(tmp_path, "a\nb\n", "x\n \n c")).startswith(f"{tmp_path}/train.en has 2 lines")
    assert refused(write(tmp_path, "a\nb\nc", "x\n \nc")).startswith(f"{tmp_path}/train.de:2: is empty")


@pytest.mark.parametrize("content", ["", "\n\n", " \n"])
def test_nothing_in_it(tmp_path: Path, content: str) -> None:
    assert refused(write(tmp_path, content, content)) == f"{tmp_path}/train.en: holds no document; fill it, or set data.source"


def test_another_encoding(tmp_path: Path) -> None:
    found = refused(write(tmp_path, "One.\nTwo.\n", "Eins.\nGr\xfc\xdfe.\n".encode("latin-1")))
    assert found == f"{tmp_path}/train.de:2: not UTF-8 text; save the file as UTF-8"
    found = refused(write(tmp_path, "One.\nTwo.\n", "Eins.\nZwei.\n".encode("utf-16-le")))  # valid UTF-8, with zeros
    assert found == f"{tmp_path}/train.de:1: holds a zero byte, which no text has; save the file as UTF-8"


def test_a_missing_split(tmp_path: Path) -> None:
    config = write(tmp_path, "a\n", "b\n")
    assert refused(config, "valid") == (
        f"{tmp_path}/valid.en: no such file, so split 'valid' is missing; put it there, or set data.source.splits"
    )
    (tmp_path / "dev.en").write_text("c\n")
    (tmp_path / "dev.de").write_text("d\n")
    renamed = LinesConfig(lines=str(tmp_path), splits={"valid": "dev"})
    assert documents(renamed, "valid", "en", "de") == [Document("dev.en:1", ["c"], ["d"])]


def test_a_document_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_LINES", 3)
    config = write(tmp_path, "a\n\n" + "b\n" * 3, "a\n\n" + "b\n" * 3)
    assert len(documents(config, "train", "en", "de")) == 2
    found = refused(write(tmp_path, "a\n\n" + "b\n" * 4, "a\n\n" + "b\n" * 4))
    assert found == f"{tmp_path}/train.en:3: a document of more than 3 lines begins; part it by empty lines"


def test_a_whole_preparation_says_which_files_it_read(tmp_path: Path) -> None:
    words = [f"word{i} and more" for i in range(30)]
    for split in ("train", "valid", "test"):
        text = "\n".join(f"{split} {word}" for word in words)
        config = write(tmp_path, text, text.upper(), split)
    data = DocumentsConfig(source=config, direction="en-de", tokenizer={"kind": "bytes"}, max_tokens=40)
    data.prepare(tmp_path / "data")
    description = data.verify(tmp_path / "data")
    assert set(description["local_files"]) == {
        f"{s}.{language}" for s in ("train", "valid", "test") for language in ("en", "de")
    }
    assert description["splits"]["test"]["pieces"] == 30
    (tmp_path / "test.de").write_text("changed\n")
    with pytest.raises(ConfigError, match=r"test\.de: was edited after the data"):
        data.verify(tmp_path / "data")
    # Any two languages will do.
    assert DocumentsConfig(source=config, direction="fr-it").languages == ("fr", "it")
