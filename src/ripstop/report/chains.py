"""What everything printed rests on, as `why` tells it, in a form that the page unfolds when it is asked.

Thousands of cells rest on the same few hundred sets of records, and hundreds of runs on the same lines: each text, set and run
is kept once and told by its number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ripstop import provenance
from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.config import ConfigError
from ripstop.files import read_text
from ripstop.plan import Plan
from ripstop.report.anchors import anchor
from ripstop.why import words
from ripstop.why.answer import Answer, cell, why
from ripstop.why.paper import Paper

MOVES_NO_NUMBER = "it tells what lies there"
UNPRINTED = "its text is not here: the parameters that it was made with are others now"


def answers(paper: Paper) -> Iterator[Answer]:
    """The answer to every name that is printed."""
    names = [*paper.numbers(), *paper.claims, *(f"figures/{name}" for name in paper.printed("figures"))]
    names += [f"claims.{count}" for count in CLAIM_COUNTS] if paper.claims else []
    yield from (why(paper, name) for name in names)
    for table, study in paper.printed("tables").items():
        yield why(paper, f"tables/{table}")
        for row, cells in enumerate(paper.studies[study]["tables"][table]["rows"]):
            yield from (cell(paper, table, row, column) for column in range(len(cells)))


class Chains:
    """grid: tells the configurations of runs that do not lie here."""

    def __init__(self, paper: Paper, grid: Plan):
        self._paper, self._grid = paper, grid
        self._texts: dict[str, int] = {}
        self._kinds: dict[tuple[int, ...], int] = {}
        self._runs: dict[tuple[str, str], int] = {}
        self._sets: dict[str, int] = {}
        self._numbers: dict[int, int] = {}
        self._records: list[list[Any]] = []

    def json(self) -> str:
        """`entries`: anchor -> name, kind, printed, what is said, what it rests on, set, names that it rests on; the rest by
        number: `sets` of records, of runs and lines; `records` of run, kind, value and n; `kinds`; `runs`; `texts`."""
        entries = {anchor(answer.name): self._entry(answer) for answer in answers(self._paper)}
        runs = [self._run(study, run) for study, run in list(self._runs)]
        content = {
            "entries": entries,
            "sets": [json.loads(text) for text in self._sets],
            "records": self._records,
            "kinds": list(self._kinds),
            "runs": runs,
            "texts": list(self._texts),
        }
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False)

    def _entry(self, answer: Answer) -> list[Any]:
        printed = f"{answer.printed} {answer.estimate.get('unit', '')}".rstrip()
        said = [self._text(text) for pair in answer.said.items() for text in pair]
        rests = self._text("" if answer.kind == "count" else words.rests_on(answer))
        return [answer.name, self._text(answer.kind), printed, said, rests, self._set(answer), answer.of]

    def _set(self, answer: Answer) -> int:
        records = [self._record(record) for record in answer.records]
        runs = [self._runs.setdefault(key, len(self._runs)) for key in answer.runs]
        content = [*(words.ranges(of, "-", ",") for of in (records, runs)), [self._text(line) for line in words.folded(answer)]]
        return self._sets.setdefault(json.dumps(content), len(self._sets))

    def _record(self, record: dict[str, Any]) -> int:
        """By identity: the paper keeps each of its records once."""
        if id(record) not in self._numbers:
            self._numbers[id(record)] = len(self._records)
            run = self._runs.setdefault((record["study"], record["run"]), len(self._runs))
            kind = tuple(self._text(text) for text in (record["part"], record["metric"], words.slices(record), record["unit"]))
            number = self._kinds.setdefault(kind, len(self._kinds))
            self._records.append([run, number, f"{record['value']:.6g}", record["n"]])
        return self._numbers[id(record)]

    def _run(self, study: str, run: str) -> list[Any]:
        origin = self._paper.origins(study).get(run, {})
        lines = [*words.chain(origin)]
        return [study, run, *([self._text(line) for line in of] for of in (lines, self._configuration(study, run, origin)))]

    def _configuration(self, study: str, run: str, origin: dict[str, Any]) -> Sequence[str]:
        """The lines of its config.yaml, from where it lies or from the plan; a sentence where neither is the one it had."""
        if not origin or not origin["config"]["digest"]:
            return []
        below = f"{study}/runs/{run}/config.yaml"
        for text in (self._lying(below), self._grid.files.get(below, "")):
            if provenance.digest(text) == origin["config"]["digest"]:
                return text.splitlines()
        return [UNPRINTED]

    def _lying(self, below: str) -> str:
        try:
            return read_text(self._paper.results / below)
        except ConfigError:
            return ""

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))
