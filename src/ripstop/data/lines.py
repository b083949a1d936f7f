"""Parallel documents from plain text: line n of one language says what line n of the other says; empty lines part documents."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ripstop.config import ConfigError, Strict
from ripstop.data.hub import Document, SplitNames
from ripstop.files import read_text

MOST_LINES = 100_000
"""Of a document: more can only mean that no empty line parts the documents of the file."""


class LinesConfig(Strict):
    """A folder of text files, `<split>.<language>` each, in UTF-8. Only newlines end a line: what else some programs take for
    the end of one (form feeds, U+2028) is a space inside it."""

    lines: str = Field(min_length=1, description="folder of the files")
    splits: SplitNames = SplitNames()

    def local_file(self, split: str, language: str) -> Path:
        """The file of "train", "valid" or "test" in one language; `ConfigError` where there is none."""
        path = Path(self.lines).expanduser() / f"{getattr(self.splits, split)}.{language}"
        if not path.is_file():
            raise ConfigError(f"{path}: no such file, so split {split!r} is missing; put it there, or set data.source.splits")
        return path


def documents(config: LinesConfig, split: str, source: str, target: str) -> list[Document]:
    """The documents of a split; `ConfigError` names the file, and the line, that cannot be used."""
    files = [config.local_file(split, language) for language in (source, target)]
    first, second = (_lines(path) for path in files)
    if len(first) != len(second):
        raise ConfigError(
            f"{files[0]} has {len(first)} lines and {files[1]} has {len(second)}; they must be aligned line by line"
        )
    found: list[Document] = []
    sides: tuple[list[str], list[str]] = ([], [])
    for number, pair in enumerate([*zip(first, second, strict=True), ("", "")], 1):
        if any(pair) and not all(pair):
            path = files[0] if not pair[0] else files[1]
            raise ConfigError(f"{path}:{number}: is empty and its translation is not; fill it, or empty both to part documents")
        if all(pair):
            for side, line in zip(sides, pair, strict=True):
                side.append(line)
        elif sides[0]:
            found.append(Document(f"{files[0].name}:{number - len(sides[0])}", *sides))
            sides = ([], [])
        if len(sides[0]) > MOST_LINES:
            start = number - len(sides[0]) + 1
            raise ConfigError(f"{files[0]}:{start}: a document of more than {MOST_LINES} lines begins; part it by empty lines")
    if not found:
        raise ConfigError(f"{files[0]}: holds no document; fill it, or set data.source")
    return found


def _lines(path: Path) -> list[str]:
    """The lines, with every run of white space as one space; empty ones at the end are none."""
    return [" ".join(line.split()) for line in read_text(path).rstrip("\n").split("\n")]
