"""A report as its reader has it: elements by name, text, links, and the data that its script unfolds."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote


class Page(HTMLParser):
    """ids, links (decoded, without `#`), tags, text without scripts, and images by their text."""

    def __init__(self, file: Path):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.images: dict[str, str] = {}
        self.addresses: list[str] = []
        self.text = self._data = ""
        self._within: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.data: dict[str, Any] = json.loads(self._data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in of:
            self.ids.append(of["id"])
        self.addresses += [of[name] for name in ("href", "src") if name in of]
        if tag == "a":
            self.links.append(unquote(of["href"].removeprefix("#")))
        if tag == "img":
            self.images[of["alt"]] = of["src"]
        self._within.append("data" if of.get("id") == "data" else tag)

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() not in (tag, "data"):
            pass

    def handle_data(self, data: str) -> None:
        if self._within and self._within[-1] == "data":
            self._data += data
        elif not self._within or self._within[-1] not in ("script", "style"):
            self.text += data

    def records(self, anchor: str) -> list[tuple[str, str]]:
        """(run, value) of each record behind an entry, as the page's script unfolds them."""
        ranges = self.data["sets"][self.data["entries"][anchor][5]][0]
        found = []
        for part in filter(None, ranges.split(",")):
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                run, _, value, _ = self.data["records"][number]
                found.append((self.data["runs"][run][1], value))
        return found
