r"""The appendix of the paper: where every number, figure and table comes from, by the files that `ripstop why` answers from.

`\val`, captions and the table of claims link to its entries, and each of those to the page where it is printed first. Runs are
told arm by arm, and what holds for all runs of a study once. `why` takes each name, and goes on to the records themselves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.claims.printing import entry_of
from ripstop.claims.verdicts import Judged
from ripstop.paper.latex import render
from ripstop.paper.numbers import USES, format_estimate
from ripstop.why.paper import Paper
from ripstop.why.words import NOT_KEPT, circumstances, counted, ranges

GIVEN = re.compile(r"\\given\s*\{([^}]*)\}")
DIGITS = 8
"""So many of a digest are printed."""
SETTING = "a setting of the runs, or a count of them"
Texts = Mapping[str, str]
"""File of the paper's text, below its folder -> what stands there, without comments."""


def appendix_tex(paper: Paper, judged: Sequence[Judged], texts: Texts) -> str:
    """LaTeX of an entry for each number that the text prints or a claim is held against, each figure and table, each count of
    claims and claim on two numbers, and each value that the text gives itself."""
    named = {name for text in texts.values() for name in USES["number"].findall(text)}
    named |= {f"{study}.{name}" for item in judged for study, name in item.claim.numbers}
    methods = _Methods()
    arms = {study: Arms(paper, study) for study in paper.studies}
    studies = [_study(paper, study, named, arms, methods) for study in paper.studies]
    values = {
        "studies": studies,
        "counts": [name for name in CLAIM_COUNTS if f"claims.{name}" in named],
        "claims": [_claim(item) for item in judged if len(item.claim.numbers) > 1 and set(item.claim.studies) <= set(arms)],
        "given": _given(texts),
        "methods": methods.parts,
    }
    return render("appendix.tex.j2", values)


class Arms:
    """The runs of a study, arm by arm, an arm being all that a run's name says but its seed.

    common: what holds for all of them, a sentence for each thing.
    """

    def __init__(self, paper: Paper, study: str):
        self.study = study
        origins = paper.origins(study)
        runs = [one["run"] for one in paper.studies[study]["runs"] if one["study"] == study]
        self._arms: dict[str, list[str]] = {}
        for run in runs:
            self._arms.setdefault(run.rpartition("_seed-")[0] or run, []).append(run)
        self._number = {run: number for number, of in enumerate(self._arms.values(), 1) for run in of}
        self._said = {run: _said(origins.get(run, {})) for run in runs}
        self._configs = {run: (origins.get(run, {}).get("config") or {}).get("digest", "") for run in runs}
        labels = dict.fromkeys(label for said in self._said.values() for label in said)
        self._shared = [label for label in labels if len({said[label] for said in self._said.values()}) == 1]
        self.common = [self._said[runs[0]][label] for label in self._shared] if runs else []

    def __len__(self) -> int:
        return len(self._arms)

    @property
    def n_runs(self) -> int:
        return len(self._number)

    def rows(self) -> list[dict[str, Any]]:
        """Of each arm its name, seeds, digests of configurations, and what does not hold for all."""
        rows = []
        for arm, runs in self._arms.items():
            apart = [said for run in runs for label, said in self._said[run].items() if label not in self._shared]
            rows.append(
                {
                    "name": arm,
                    "seeds": ranges(int(run.rpartition("_seed-")[2]) for run in runs if run != arm),
                    "configs": [self._configs[run][:DIGITS] or NOT_KEPT for run in runs],
                    "apart": list(dict.fromkeys(apart)),
                }
            )
        return rows

    def of(self, runs: Iterable[str]) -> str:
        """`all arms`, `arm 2` or `arms 1-3, 5`: those that these runs belong to."""
        numbers = {self._number[run] for run in runs}
        if len(numbers) == len(self) > 1:
            return "all arms"
        return f"{'arm' if len(numbers) == 1 else 'arms'} {ranges(numbers)}"


class _Methods:
    """The functions that made the estimates, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def named(self, method: str) -> list[tuple[int, str]]:
        """Number and name of each function of a method, as `ripstop.paper.methods` tells it."""
        parts = method.split("; of: ")
        return [(self._numbers.setdefault(part, len(self._numbers)), part.partition(": ")[0]) for part in parts]

    @property
    def parts(self) -> list[tuple[int, str, str]]:
        """Number, name and what it does."""
        split = [(number, *part.replace("`", "").partition(": ")[::2]) for part, number in self._numbers.items()]
        return sorted(split, key=lambda part: part[1])


def _study(paper: Paper, study: str, named: Iterable[str], arms: Mapping[str, Arms], methods: _Methods) -> dict[str, Any]:
    sources = paper.studies[study]
    sets = sources["behind"]

    def where(sets: Iterable[Mapping[str, Any]]) -> str:
        runs = sorted({run for one in sets for run in one["runs"]})
        return _where([(sources["runs"][run]["study"], sources["runs"][run]["run"]) for run in runs], study, arms)

    def behind(number: Mapping[str, Any]) -> str:
        found = sets[number["behind"]]
        if not number["n"]:
            return "nothing of this scale"
        if not found["kinds"]:
            return SETTING
        return f"{counted(found['records'], 'record')} of {where([found])}"

    def table(of: Mapping[str, Any]) -> str:
        moved = [sets[number] for number in {cell["behind"] for row in of["rows"] for cell in row}]
        measured = [one for one in moved if one["kinds"]]
        return f"{counted(of['records'], 'record')} of {where(measured)}" if measured else SETTING

    shown = {f"figures/{name}": behind({"n": 1, **of}) for name, of in sources["figures"].items()}
    shown |= {f"tables/{name}": table(of) for name, of in sources["tables"].items()}
    numbers = [
        {
            "target": f"number.{study}.{name}",
            "name": name,
            "printed": number["printed"],
            "unit": number["unit"],
            "methods": methods.named(sources["methods"][number["method"]]) if number["n"] else [],
            "behind": behind(number),
        }
        for name, number in sorted(sources["numbers"].items())
        if f"{study}.{name}" in named
    ]
    return {"study": study, "arms": arms[study], "shown": shown, "numbers": numbers}


def _where(runs: Sequence[tuple[str, str]], mine: str, arms: Mapping[str, Arms]) -> str:
    """`5 runs, arm 2`, also where some are of another study."""
    found = []
    for study in dict.fromkeys(study for study, _ in runs):
        names = [run for of, run in runs if of == study]
        of = "" if study == mine else f" of {study}"
        found.append(
            f"{counted(len(names), 'run')}{of}, {arms[study].of(names)}" if study in arms else f"{len(names)} runs{of}"
        )
    return " and ".join(found) or "no run"


def _said(origin: Mapping[str, Any]) -> dict[str, str]:
    """What a run stood on, by what it says."""
    data = ((origin.get("data") or {}).get("digest") or "")[:DIGITS]
    told = (*circumstances(origin), f"data {data or NOT_KEPT}")
    return dict(zip(("commit", "device", "versions", "data"), told, strict=True))


def _claim(item: Judged) -> dict[str, Any]:
    return {
        "target": entry_of(item.claim),
        "id": item.claim.id,
        "printed": format_estimate(item.estimate),
        "numbers": [f"{study}.{name}" for study, name in item.claim.numbers],
        "operation": "minus" if item.claim.operation == "-" else "over",
    }


def _given(texts: Texts) -> list[dict[str, Any]]:
    """What the text gives itself, each once, and where it stands."""
    files: dict[str, list[str]] = {}
    for file, text in texts.items():
        for given in GIVEN.findall(text):
            files.setdefault(" ".join(given.split()), []).append(file)
    return [
        {"target": f"given.{_digest(given)}", "given": given, "files": list(dict.fromkeys(of))} for given, of in files.items()
    ]


def _digest(given: str) -> str:
    """The digest that \\given takes of its argument: what it is given may hold anything."""
    return hashlib.md5(given.encode(), usedforsecurity=False).hexdigest().upper()
