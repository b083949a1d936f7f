"""The help of LibreOffice in two languages, where Debian's packages are installed: a second domain of parallel documents.

Every page is a document and every paragraph a piece; paragraphs are aligned by their ids. Much of it is alike from page to
page, so that a third of what is held out stands in training too: data.json counts it. MPL-2.0.
"""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.data.hub import Document

ROOT = Path("/usr/share/libreoffice/help")
FOLDERS = {"en": "en-US", "de": "de"}
PACKAGES = {"en": "libreoffice-help-en-us", "de": "libreoffice-help-de"}
LICENSE = "MPL-2.0"
LENGTH_RATIO = (0.4, 2.5)
MOST_WORDS, FEWEST_WORDS, FEWEST_PIECES = 80, 4, 4
HELD_OUT = {0: "test", 1: "valid"}
"""Of twenty parts by a digest of the page's name: the rest is trained on."""

_ID = re.compile(r"par_|hd_|tit|N\d")
_CODE = re.compile(r"[{}=\\<>]|\(\)|^\W")
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_TEXT = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}


def documents(source: str, target: str, root: Path | None = None) -> dict[str, list[Document]]:
    """The pages of train, valid and test, in the order of their names; `source` and `target` are "en" and "de".

    `ConfigError` names the packages where they are not installed. root: of the help; none given: Debian's.
    """
    folders = {}
    for language in (source, target):
        folders[language] = (ROOT if root is None else root) / FOLDERS[language] / "text"
        if not folders[language].is_dir():
            raise ConfigError(
                f"data.source: libreoffice_help needs {folders[language]}; install it by "
                f"`apt-get install {PACKAGES[source]} {PACKAGES[target]}`, or take another source"
            )
    splits: dict[str, list[Document]] = {"train": [], "valid": [], "test": []}
    for path in sorted(folders[source].rglob("*.html")):
        name = path.relative_to(folders[source]).as_posix()
        other = folders[target] / name
        pairs = _pairs(path, other) if other.is_file() else []
        if len(pairs) >= FEWEST_PIECES:
            part = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 20
            splits[HELD_OUT.get(part, "train")].append(Document(name, [a for a, _ in pairs], [b for _, b in pairs]))
    for split, found in splits.items():
        if not found:
            raise ConfigError(f"{folders[source]}: holds no page for split {split!r}; install the packages again")
    return splits


def _pairs(page: Path, translation: Path) -> list[tuple[str, str]]:
    """Paragraphs that both pages have, each pair once, without code, untranslated text and misaligned lengths."""
    texts, others = _paragraphs(page), _paragraphs(translation)
    found: dict[tuple[str, str], None] = {}
    for name, (tag, text) in texts.items():
        _, other = others.get(name, ("", ""))
        if not text or not other or text == other or _CODE.search(text):
            continue
        n_words = len(text.split())
        if (tag == "p" and n_words < FEWEST_WORDS) or max(n_words, len(other.split())) > MOST_WORDS:
            continue
        if LENGTH_RATIO[0] < len(other) / len(text) < LENGTH_RATIO[1]:
            found[text, other] = None
    return list(found)


def _paragraphs(page: Path) -> dict[str, tuple[str, str]]:
    """id -> (tag, text) of the paragraphs and headings of a page, in order; of the same id the first."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{page}: cannot be read ({error}); install the package again") from None
    start = text.find('id="DisplayArea"')
    parser = _Paragraphs()
    parser.feed(text[max(text.rfind("<", 0, start), 0) :] if start >= 0 else text)
    return parser.found


class _Paragraphs(HTMLParser):
    """Collects texts with an id of their own. What only a Mac shows is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[str, str]] = {}
        self._open: list[tuple[str, bool]] = []
        self._hidden = 0
        self._id, self._tag, self._depth, self._parts = "", "", 0, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            self._parts.append(" ")
            return
        given = dict(attrs)
        name = given.get("id") or ""
        hidden = "hidden" in given and "MAC" in name
        self._open.append((tag, hidden))
        self._hidden += hidden
        if tag in _TEXT and _ID.match(name):
            self._id, self._tag, self._depth, self._parts = name, tag, len(self._open), []

    def handle_endtag(self, tag: str) -> None:
        while tag not in _VOID and self._open:
            closed, hidden = self._open.pop()
            self._hidden -= hidden
            if self._id and len(self._open) < self._depth:
                self.found.setdefault(self._id, (self._tag, " ".join("".join(self._parts).split())))
                self._id = ""
            if closed == tag:
                break

    def handle_data(self, data: str) -> None:
        if self._id and not self._hidden:
            self._parts.append(data)
