"""Differences between a file and what it should hold, each one sentence: file, key or line, both values."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ripstop.config import ConfigError
from ripstop.files import read_text, sentence
from ripstop.provenance import file_sha256

MOST = 5
"""So many sentences a file; the rest is counted."""
NUMBER = re.compile(r"\\ripstop(?:number|entry)\{([^}]*)\}")
SHOWN = 100


def json_differences(file: Path, wanted: str, gives: str, but: tuple[str, ...] = ()) -> list[str]:
    """Of a JSON file, key by key. wanted: the text it should have. gives: who says so ("the records give").

    but: keys, at any depth, that may differ.
    """
    try:
        found = json.loads(read_text(file))
    except ConfigError as error:
        return [str(error)]
    except ValueError:
        return [f"{file}: not JSON; make it again"]
    found, expected = (_without(values, but) for values in (found, json.loads(wanted)))
    return _few([f"{file}: {line}" for line in value_differences(found, expected, gives)], file)


def value_differences(found: Any, wanted: Any, gives: str, key: str = "") -> Iterator[str]:
    """`a.b is 1, the records give 2` for each leaf. Numbers agree where they differ in the last digits only."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*wanted, *found]):
            here = f"{key}.{name}" if key else str(name)
            if name not in found:
                yield f"{here} is missing, {gives} {_shown(wanted[name])}"
            elif name not in wanted:
                yield f"{here} is {_shown(found[name])}, {gives} none"
            else:
                yield from value_differences(found[name], wanted[name], gives, here)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            name = one["id"] if isinstance(one, dict) and "id" in one else i
            yield from value_differences(one, other, gives, f"{key}.{name}")
    elif not _same(found, wanted):
        yield f"{key} is {_shown(found)}, {gives} {_shown(wanted)}"


def text_differences(file: Path, wanted: str, gives: str, but: tuple[str, ...] = ()) -> list[str]:
    """Of a text, line by line. but: starts of lines that may differ."""
    try:
        found = read_text(file)
    except ConfigError as error:
        return [str(error)]
    kept = [(number, line) for number, line in enumerate(found.split("\n"), 1) if not line.startswith(but or "\0")]
    numbers, lines = [number for number, _ in kept], [line for _, line in kept]
    others = [line for line in wanted.split("\n") if not line.startswith(but or "\0")]
    told = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, lines, others, autojunk=False).get_opcodes():
        for i in range(max(b - a, d - c) if kind != "equal" else 0):
            one, other = (lines[a + i] if a + i < b else ""), (others[c + i] if c + i < d else "")
            number = numbers[a + i] if a + i < len(numbers) else numbers[-1] + 1
            name = NUMBER.match(one or other)
            start = _first_difference(one, other)
            where = f"{file}: line {number}{f' ({name[1]})' if name else ''}"
            told.append(f"{where} reads {_excerpt(one, start)}, {gives} {_excerpt(other, start)}")
    return _few(told, file)


def file_differences(file: Path, other: Path, gives: str) -> list[str]:
    """Of any file, by its digest."""
    try:
        found, wanted = file_sha256(file), file_sha256(other)
    except OSError as error:
        return [sentence(error)]
    return [] if found == wanted else [f"{file}: its SHA-256 is {found[:16]}, {gives} {wanted[:16]}"]


def _without(values: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(values, dict):
        return {key: _without(value, keys) for key, value in values.items() if key not in keys}
    return [_without(value, keys) for value in values] if isinstance(values, list) else values


def _few(sentences: list[str], file: Path) -> list[str]:
    more = len(sentences) - MOST
    return sentences if more <= 1 else [*sentences[:MOST], f"{file}: {more} more differences"]


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, float | int) and isinstance(wanted, float | int):
        return isinstance(found, bool) == isinstance(wanted, bool) and math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == wanted)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _first_difference(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _excerpt(line: str, at: int) -> str:
    if not line:
        return "nothing"
    start = max(0, at - SHOWN // 2)
    part = line[start : start + SHOWN].strip()
    return f"'{'...' if start else ''}{part}{'...' if len(line) > start + SHOWN else ''}'"
