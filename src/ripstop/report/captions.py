r"""Titles and captions of the paper's sections as plain text, with the printed numbers in place of `\val`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ripstop.paper.numbers import uncommented

MOVES_NO_NUMBER = "it reads captions"

_GROUP = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_TITLE = re.compile(rf"\\section{_GROUP}")
_FIGURE = re.compile(rf"\\includegraphics(?:\[[^]]*\])?\{{figures/([^}}]*?)(?:\.pdf)?\}}\s*\\caption{_GROUP}")
_NUMBER = re.compile(r"\\(val|valci)\{([^}]*)\}")
_LEFT_OUT = re.compile(r"\s*\\(?:cite[a-z]*|label)(?:\[[^]]*\])*\{[^}]*\}")
_SIGNS = {r"\,": "\u202f", "~": "\u00a0", "---": "—", "--": "–", "``": "“", "''": "”", "$": ""}


@dataclass(frozen=True)
class Section:
    """title: "" where the section has none. captions: figure -> caption."""

    title: str
    captions: Mapping[str, str]


def section(file: Path, printed: Mapping[str, str]) -> Section:
    """What the section of a study says of itself and of its figures; nothing where there is no such file.

    printed: `study.number` -> as it is printed, with its interval.
    """
    if not file.is_file():
        return Section("", {})
    text = uncommented(file)
    title = _TITLE.search(text)
    captions = {name: plain(caption, printed) for name, caption in _FIGURE.findall(text)}
    return Section(plain(title.group(1), printed) if title else "", captions)


def plain(tex: str, printed: Mapping[str, str]) -> str:
    """Prose of LaTeX as plain text: commands give what they are handed."""

    def number(found: re.Match[str]) -> str:
        value = printed.get(found.group(2), found.group(2))
        return value if found.group(1) == "valci" else value.partition(" [")[0]

    text = _NUMBER.sub(number, _LEFT_OUT.sub("", tex))
    for sign, character in _SIGNS.items():
        text = text.replace(sign, character)
    text = re.sub(r"\\[A-Za-z]+\s*", "", re.sub(r"\\([%&_#{}$])", r"\1", text))
    return " ".join(re.sub(r"(?<!\\)[{}]", "", text).split(" ")).replace("\n", " ").strip()
