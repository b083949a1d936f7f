"""The answer to a name: what it is, how it was made, and everything behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.config import ConfigError, nearest
from ripstop.why.paper import Paper, Sources

MOVES_NO_NUMBER = "it tells what lies there"
COUNTS = "claims"
"""In place of a study, for the numbers that count claims."""
KINDS = ("figures", "tables")


@dataclass
class Answer:
    """What `why` tells.

    kind: number, figure, table, cell, verdict or count. said: label -> sentence, in the order that they are told.
    estimate: value, low, high, n and unit of a number. of: names of what it rests on, those of a verdict or a count.
    records: as they were collected. runs: (study, run) -> where its records come from, {} where that was not kept.
    """

    name: str
    kind: str
    scale: str
    printed: str = ""
    said: dict[str, str] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
    of: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def json(self) -> str:
        values = {key: value for key, value in vars(self).items() if key != "runs"}
        runs = [{"study": study, "run": run, **found} for (study, run), found in self.runs.items()]
        return json.dumps(values | {"runs": runs}, indent=1, ensure_ascii=False)


def why(paper: Paper, name: str) -> Answer:
    """`study.number`, a claim's id, `figures/<name>`, `tables/<name>`, or a cell `tables/<name>:<row>:<column>`, where rows and
    columns go by their heading or number; `@2` is the second whatever the headings are. A figure or table needs no folder where
    no other thing has its name.

    `ConfigError` with the nearest names where it is none of them.
    """
    if name in paper.claims:
        return _verdict(paper, name)
    study, _, last = name.partition(".")
    if study == COUNTS and paper.claims:
        return _count(paper, last, name)
    if name in paper.numbers():
        return _number(paper, *paper.numbers()[name])
    whole, *cell = name.split(":")
    folder, _, plain = whole.rpartition("/")
    plain = plain.removesuffix(".pdf").removesuffix(".tex").removesuffix(".csv")
    kinds = [kind for kind in KINDS if plain in paper.printed(kind) and folder in ("", kind, f"paper/{kind}")]
    if cell:
        kinds = [kind for kind in kinds if kind == "tables"]
    if len(kinds) > 1:
        raise ConfigError(f"{name}: is a figure and a table; write figures/{plain} or tables/{plain}")
    if not kinds:
        known = [*paper.numbers(), *paper.claims, *(f"{kind}/{one}" for kind in KINDS for one in paper.printed(kind))]
        close = nearest(name, sorted(known))
        if "did you mean" not in close:  # hundreds of names
            close = f"; sources of what is printed are kept of {', '.join(paper.studies) or 'no study'}"
        raise ConfigError(f"{name}: nothing of that name is printed at scale {paper.scale}{close}")
    if kinds == ["figures"]:
        return _figure(paper, plain)
    return _cell(paper, plain, cell) if cell else _table(paper, plain)


def _number(paper: Paper, study: str, name: str) -> Answer:
    sources = paper.studies[study]
    number = sources["numbers"][name]
    answer = Answer(f"{study}.{name}", "number", paper.scale, number["printed"])
    answer.estimate = {key: number[key] for key in ("value", "low", "high", "n", "unit")}
    answer.said = {"method": sources["methods"][number["method"]]}
    _add(paper, answer, sources, [number["behind"]])
    if not number["n"]:
        answer.said["behind"] = "nothing: the parameters of this scale dropped what it is measured on"
        answer.records, answer.runs = [], {}
    return answer


def _figure(paper: Paper, name: str) -> Answer:
    sources = paper.studies[paper.printed("figures")[name]]
    answer = Answer(f"figures/{name}", "figure", paper.scale)
    _add(paper, answer, sources, [sources["figures"][name]["behind"]])
    return answer


def _table(paper: Paper, name: str) -> Answer:
    sources = paper.studies[paper.printed("tables")[name]]
    table = sources["tables"][name]
    answer = Answer(f"tables/{name}", "table", paper.scale, said={"caption": table["caption"]})
    moved = [cell["behind"] for row in table["rows"] for cell in row]
    _add(paper, answer, sources, [number for number in dict.fromkeys(moved) if sources["behind"][number]["kinds"]])
    return answer


def _cell(paper: Paper, name: str, place: Sequence[str]) -> Answer:
    if len(place) != 2:
        raise ConfigError(f"tables/{name}:{':'.join(place)}: write a cell as tables/{name}:<row>:<column>")
    headings, header = _headings(paper, name)
    return cell(paper, name, _place("row", place[0], headings, name), _place("column", place[1], header, name))


def cell(paper: Paper, name: str, row: int, column: int) -> Answer:
    """The answer to a cell of the table `name`, by its place, counted from 0."""
    sources = paper.studies[paper.printed("tables")[name]]
    found = sources["tables"][name]["rows"][row][column]
    places = zip((row, column), _headings(paper, name), strict=True)
    address = ":".join(headings[at] if headings.index(headings[at]) == at else f"@{at + 1}" for at, headings in places)
    answer = Answer(f"tables/{name}:{address}", "cell", paper.scale, found["printed"])
    answer.said = {"method": sources["methods"][found["method"]]}
    _add(paper, answer, sources, [found["behind"]])
    return answer


def _headings(paper: Paper, name: str) -> tuple[list[str], list[str]]:
    """Of the rows of a table, and of its columns."""
    table = paper.studies[paper.printed("tables")[name]]["tables"][name]
    return [row[0]["printed"] for row in table["rows"]], table["header"]


def _place(kind: str, wanted: str, headings: Sequence[str], table: str) -> int:
    if wanted in headings:
        return headings.index(wanted)
    number = wanted.removeprefix("@")
    if number.isdecimal() and 0 < int(number) <= len(headings):
        return int(number) - 1
    raise ConfigError(f"tables/{table}: of {len(headings)} {kind}s none is {wanted!r}{nearest(wanted, list(headings))}")


def _verdict(paper: Paper, name: str) -> Answer:
    row = paper.claims[name]
    answer = Answer(name, "verdict", paper.scale, row["verdict"])
    answer.said = {"statement": row["statement"], "origin": row["origin"]}
    answer.said["criterion"] = f"{row['measure']} {_criterion(row['criterion'])}"
    if row.get("needs"):
        answer.said["needs"] = ", ".join(f"{control} ({paper.claims[control]['verdict']})" for control in row["needs"])
    if row.get("registration"):
        answer.said["registration"] = " ".join(filter(None, [row["registration"], row.get("reason", "")]))
    answer.estimate = {key: row[key] for key in ("value", "low", "high", "n", "unit") if key in row}
    answer.of = [word for word in row["measure"].split() if "." in word]
    for number in answer.of:
        if number in paper.numbers():
            part = _number(paper, *paper.numbers()[number])
            answer.said[number] = f"{part.printed}; {part.said['method']}"
            answer.records += [record for record in part.records if record not in answer.records]
            answer.runs |= part.runs
    return answer


def _count(paper: Paper, count: str, name: str) -> Answer:
    """`claims.<count>`, a number of the paper's text."""
    rows = [row for row in paper.claims.values() if row["role"] == "claim"]
    controls = [row["id"] for row in paper.claims.values() if row["role"] == "control"]
    counted: dict[str, list[str]] = {name: [] for name in CLAIM_COUNTS}
    counted |= {"total": [row["id"] for row in rows], "controls": controls, "controls_failed": paper.failed_controls}
    for row in rows:
        for key in (row["verdict"].partition(":")[0].replace(" ", "_"), row.get("registration")):
            if key in counted:
                counted[key].append(row["id"])
    if count not in counted:
        raise ConfigError(f"{name}: claims are not counted so{nearest(count, sorted(counted))}")
    said = {"method": "a count of claims by their verdicts"}
    return Answer(name, "count", paper.scale, str(len(counted[count])), said, of=counted[count])


def _criterion(criterion: dict[str, Any]) -> str:
    ((kind, level),) = criterion.items()
    return f"within {level}" if kind == "within" else f"{'>' if kind == 'above' else '<'} {level:g}"


def _add(paper: Paper, answer: Answer, sources: Sources, sets: Iterable[int]) -> None:
    """The records of these sets, and their runs with where they come from."""
    pairs: set[tuple[int, int]] = set()
    runs: set[int] = set()
    for number in sets:
        behind = sources["behind"][number]
        runs |= set(behind["runs"])
        pairs |= {(run, kind) for run in behind["runs"] for kind in behind["kinds"]}
    answer.records += [record for record, place in paper.placed(sources["study"]) if place in pairs] if pairs else []
    for number in sorted(runs):
        study, run = (sources["runs"][number][key] for key in ("study", "run"))
        answer.runs[study, run] = paper.origins(study).get(run, {})
    if not pairs:
        answer.said["behind"] = "a setting of the runs, or a count of them: no measured value moves it"
