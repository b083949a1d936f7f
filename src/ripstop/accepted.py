"""Results that are kept under a digest of other code: which digests were accepted for which, and why.

results/accepted.json, which git tracks, maps the digest of code to that of the code the results were made with, and the plan
writes the latter, so that nothing is stale. The results keep the digest that they were made with. What is made anew while an
entry stands carries the old digest too, since that is what the plan writes: where all of a study was made anew, remove its
entries, and let what is then stale run again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Self

from ripstop import provenance
from ripstop.config import ConfigError, Strict
from ripstop.files import read_text

FILE = Path("results/accepted.json")
MOVES_NO_NUMBER = "says which digests mean the same"


class Acceptance(Strict):
    """One digest taken for another. `made`: of the code that the results were made with; `now`: of the code accepted."""

    scale: str
    study: str
    stage: str
    made: str
    now: str
    reason: str
    date: str
    commit: str


class Accepted:
    """The content of results/accepted.json."""

    def __init__(self, entries: list[Acceptance]):
        self.entries = entries
        self._made = {entry.now: entry.made for entry in entries}

    @classmethod
    def read(cls, root: Path = Path()) -> Self:
        path = root / FILE
        if not path.exists():
            return cls([])
        text = read_text(path)
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not JSON ({error}); restore it with git") from None
        if not isinstance(rows, list):
            raise ConfigError(f"{path}: not a list of acceptances; restore it with git")
        return cls([Acceptance.parse(row, f"{path}: entry {i}") for i, row in enumerate(rows, 1)])

    @property
    def key(self) -> str:
        """Changes with every entry."""
        return provenance.digest(json.dumps(self._made))

    def origin(self, digest: str) -> str:
        """The digest that results accepted under `digest` were made with; itself where nothing was accepted."""
        seen = {digest}
        while (made := self._made.get(digest)) is not None and made not in seen:
            seen.add(made)
            digest = made
        return digest

    def sentences(self, scale: str, studies: Collection[str] | None = None) -> list[str]:
        """What is kept at `scale`, of `studies` alone where they are given; one sentence for each reason."""
        groups: dict[tuple[str, str, str], Counter[str]] = {}
        for e in self.entries:
            if e.scale == scale and (studies is None or e.study in studies):
                groups.setdefault((e.reason, e.date[:10], e.commit), Counter())[e.study] += 1
        return [
            f"digests of earlier code whose results are kept: "
            f"{', '.join(f'{n} of {study}' for study, n in studies.items())} (accepted on {day} at {commit}: {reason})"
            for (reason, day, commit), studies in groups.items()
        ]
