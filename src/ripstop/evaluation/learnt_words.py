"""What the data alone teaches of words, learnt once for all runs on it: names, and which words translate each other.

It takes seconds of a processor for the Bible. The outcome is kept in the user's cache under a digest of the data and of the
code that learns, so that each run finds what it would learn itself; a cache that cannot be read or written costs that time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ripstop import provenance
from ripstop.code_digest import code_digest
from ripstop.config import ConfigError
from ripstop.data.base import DESCRIPTION
from ripstop.data.documents import DocumentsConfig
from ripstop.evaluation.alignment import Lexicon
from ripstop.evaluation.coverage import Coverage, Rates, Side
from ripstop.evaluation.entities import NameCounts
from ripstop.evaluation.training_text import held_out_words, training_words
from ripstop.files import cache_folder, read_text, write_if_different


@dataclass(frozen=True)
class LearntWords:
    """names: of entities; coverage: of omissions and additions."""

    names: NameCounts
    coverage: Coverage


def learnt_words(config: DocumentsConfig, data: Path) -> LearntWords:
    """Of prepared data."""
    memo = _memo(data)
    try:
        if memo is not None:
            return _read(json.loads(read_text(memo)))
    except (OSError, ConfigError, ValueError, TypeError, KeyError, AttributeError):
        pass  # not there, cut short, or of another version: it is learnt again
    found = learn(config, data)
    try:
        if memo is not None:
            write_if_different(memo, json.dumps(asdict(found) | {"names": _names(found.names)}, ensure_ascii=False))
    except (OSError, ConfigError):
        pass
    return found


def learn(config: DocumentsConfig, data: Path) -> LearntWords:
    """The same, whatever is in the cache."""
    training = training_words(config, data)
    return LearntWords(NameCounts.count(training), Coverage.estimate(training, held_out_words(config, data)))


def _memo(data: Path) -> Path | None:
    folder = cache_folder()
    learnt_from = provenance.digest((data / DESCRIPTION).read_bytes()) + code_digest([__name__])
    return None if folder is None else folder / "words" / f"{provenance.digest(learnt_from)}.json"


def _names(names: NameCounts) -> dict[str, Any]:
    return {"common": sorted(names.common), "target": names.target}


def _read(kept: dict[str, Any]) -> LearntWords:
    names, coverage = kept["names"], kept["coverage"]
    sides = (
        Side(side["seen"], Rates(**side["own"]), Rates(**side["other"]), side["level"])
        for side in (coverage["source"], coverage["target"])
    )
    return LearntWords(
        NameCounts(frozenset(names["common"]), names["target"]), Coverage(Lexicon(**coverage["lexicon"]), *sides)
    )
