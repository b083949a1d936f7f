"""The help of LibreOffice: paragraphs by their ids, what is left out, and one sentence where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.data import libreoffice_help
from ripstop.data.documents import DocumentsConfig
from ripstop.data.libreoffice_help import HELD_OUT, documents

PAGE = """<html><head><title>menu text</title></head><body><p id="par_id0" class="menu">Not the page's own text.</p>
<div id="DisplayArea"><h1 id="hd_id1">{title}</h1>
<p id="par_id2" class="paragraph">{first}<br>{second} <span class="key">F1</span>.</p>
<p id="par_id3">{mac}<span id="MAC1" hidden="true">Command only</span> and press it again.</p>
<p id="par_id4">=SUM(A1) in a cell of it.</p><p id="par_id5">Too short.</p><p>It has no id at all.</p>
<p id="par_id6">The very same text here.</p><p id="par_id7">{only}</p></div></body></html>"""


def write(root: Path, name: str, n: int) -> None:
    english = {"title": f"Cells {n}", "first": f"Choose the menu {n} here", "second": "and then press",
               "mac": f"Hold the key {n}", "only": f"Click the button {n} now."}  # fmt: skip
    german = {"title": f"Zellen {n}", "first": f"Wählen Sie das Menü {n} hier", "second": "und drücken Sie",
              "mac": f"Halten Sie die Taste {n}", "only": f"Klicken Sie jetzt auf die Schaltfläche {n}."}  # fmt: skip
    for folder, words in (("en-US", english), ("de", german)):
        path = root / folder / "text" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(**words), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for n in range(120):
        write(tmp_path, f"calc/{n:03}.html", n)
    (tmp_path / "en-US/text/calc/999.html").write_text(PAGE)  # without a translation
    return tmp_path


def test_a_page_by_hand(root: Path) -> None:
    (document,) = [d for found in documents("en", "de", root).values() for d in found if d.id == "calc/007.html"]
    assert document.source == [
        "Cells 7", "Choose the menu 7 here and then press F1.", "Hold the key 7 and press it again.", "Click the button 7 now.",
    ]  # fmt: skip
    assert document.target[:2] == ["Zellen 7", "Wählen Sie das Menü 7 hier und drücken Sie F1."]
    other = next(d for found in documents("de", "en", root).values() for d in found if d.id == "calc/007.html")
    assert (other.source, other.target) == (document.target, document.source)


def test_every_page_is_in_one_split_that_its_name_decides(root: Path) -> None:
    found = documents("en", "de", root)
    names = [document.id for split in found.values() for document in split]
    assert sorted(names) == [f"calc/{n:03}.html" for n in range(120)]
    assert set(HELD_OUT.values()) < set(found) and len(found["train"]) > 10 * len(found["test"])
    again = {split: [d.id for d in held] for split, held in documents("en", "de", root).items()}
    assert again == {split: [d.id for d in held] for split, held in found.items()}


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libreoffice_help, "ROOT", tmp_path / "nowhere")
    config = DocumentsConfig(source="libreoffice_help")
    with pytest.raises(ConfigError) as caught:
        config.prepare(tmp_path / "data")
    assert str(caught.value) == (
        f"data.source: libreoffice_help needs {tmp_path}/nowhere/en-US/text; install it by "
        "`apt-get install libreoffice-help-en-us libreoffice-help-de`, or take another source"
    )


def test_pages_that_cannot_be_used(root: Path) -> None:
    for path in sorted((root / "de/text/calc").iterdir())[5:]:
        path.unlink()
    with pytest.raises(ConfigError, match=r"holds no page for split '(valid|test)'; install the packages again"):
        documents("en", "de", root)
    (root / "en-US/text/calc/000.html").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"000\.html: cannot be read .*; install the package again"):
        documents("en", "de", root)


def test_a_whole_preparation(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libreoffice_help, "ROOT", root)
    config = DocumentsConfig(source="libreoffice_help", tokenizer={"kind": "bpe", "vocab_size": 300})
    config.prepare(tmp_path / "data")
    description = config.verify(tmp_path / "data")
    assert description["origin"] == {"license": "MPL-2.0"} and description["splits"]["test"]["documents"] > 0
