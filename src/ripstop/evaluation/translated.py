"""Translations as files: JSON lines with what belongs together, and plain text for the command lines of metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.files import read_text, write_text

TRANSLATIONS = "translations.jsonl"
SIDES = {"source": "sources.txt", "hypothesis": "hypotheses.txt", "reference": "references.txt"}
"""Field of a translation -> its file of plain text, one segment a line."""


@dataclass(frozen=True)
class Translation:
    """One window of a document: what went in, what came out, what a human wrote."""

    document: str
    source: str
    hypothesis: str
    reference: str


def one_line(text: str) -> str:
    """`text` as one line of a file: each run of white space, whatever line separators are among it, is one space.

    BLEU and chrF++ split at white space, so that the score of what stands in the file is that of the text.
    """
    return " ".join(text.split())


def write_translations(folder: Path, translations: Sequence[Translation]) -> None:
    """translations.jsonl, and a text file of each side with segment i in line i."""
    write_text(folder / TRANSLATIONS, "".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in translations))
    for side, name in SIDES.items():
        write_text(folder / name, "".join(one_line(getattr(t, side)) + "\n" for t in translations))


def read_translations(path: Path) -> list[Translation]:
    """What `write_translations` wrote; `ConfigError` names a line that is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such translations; evaluate the run's part `translation` first")
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line:
            try:
                found.append(Translation(**json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                raise ConfigError(f"{path}:{number}: no translation; delete the folder and evaluate the run again") from None
            if not all(isinstance(text, str) for text in vars(found[-1]).values()):
                raise ConfigError(f"{path}:{number}: no translation; delete the folder and evaluate the run again")
    if not found:
        raise ConfigError(f"{path}: holds no translation; delete the folder and evaluate the run again")
    return found
