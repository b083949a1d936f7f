"""Claims that execute: a criterion written down before the run, and a verdict derived from the studies' numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Table as ConsoleTable
from rich.text import Text

from ripstop import yaml_file
from ripstop.config import NAME, ConfigError, Strict, nearest
from ripstop.files import read_text, write_text
from ripstop.paper import studies as printers
from ripstop.paper.latex import render
from ripstop.paper.numbers import CLAIM_COUNTS, Numbers, by_study, format_estimate, read_studies, to_json
from ripstop.provenance import digest
from ripstop.statistics import Estimate

Verdict = Literal["supported", "refuted", "inconclusive", "not measured"]
STYLES: dict[Verdict, str] = {
    "supported": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not measured": "bright_black",
}
NUMBER = rf"{NAME.pattern}\.{NAME.pattern}"
MEASURE = re.compile(rf"({NUMBER})(?: ([-/]) ({NUMBER}))?")


class Criterion(Strict):
    """Exactly one of: the number lies above a level, below one, or within two."""

    above: float | None = None
    below: float | None = None
    within: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("above", "below", "within") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of above, below and within, not {' and '.join(given) or 'none'}")
        if self.within is not None and not self.within[0] < self.within[1]:
            raise ValueError("within needs two numbers, the lower one first")
        return self

    def __str__(self) -> str:
        if self.within is not None:
            return f"within [{self.within[0]:g}, {self.within[1]:g}]"
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"


class Claim(Strict):
    """One statement.

    origin: where it comes from, a paper or "hypothesis".
    measure: `study.number` as the study's printer names it, or two of them, `a.x - b.y` or `a.x / b.y`.
    scales: where the claim is meant to hold; elsewhere it is "not measured".
    """

    id: str = Field(pattern=rf"^{NAME.pattern}$")
    statement: str = Field(min_length=1)
    origin: str = Field(min_length=1)
    measure: str
    criterion: Criterion
    scales: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if not MEASURE.fullmatch(self.measure):
            forms = "`study.number`, `study.number - study.number` or `study.number / study.number`"
            raise ValueError(f"measure {self.measure!r} is none; write {forms}")
        return self

    @property
    def operation(self) -> str:
        """`-`, `/`, or nothing where the measure is one number."""
        return _match(self.measure).group(2) or ""

    @property
    def numbers(self) -> list[tuple[str, str]]:
        """(study, name) of the one or two numbers that it rests on."""
        first, _, second = _match(self.measure).groups()
        return [(s, n) for s, _, n in (name.partition(".") for name in (first, second) if name)]

    @property
    def digest(self) -> str:
        """Of what decides the verdict: another measure or criterion is another claim."""
        return digest(f"{self.measure} {self.criterion.model_dump_json()}")


class Registry(Strict):
    """paper/claims.yaml."""

    claims: list[Claim]


@dataclass(frozen=True)
class Judged:
    """A claim with the number it was held against (None: not measured) and what follows.

    at_hand: the numbers of all of its studies were there to be asked.
    """

    claim: Claim
    estimate: Estimate | None
    verdict: Verdict
    at_hand: bool = True


def load(path: Path, scales: Collection[str]) -> list[Claim]:
    """The claims of a registry, in its order. A claim on a study, number or scale that does not exist is an error.

    scales: every scale there is. Studies and their numbers are those of the printers, whether they were run or not.
    """
    claims = Registry.parse(yaml_file.mapping(path, "the claims are kept in paper/claims.yaml"), str(path)).claims
    ids: set[str] = set()
    for claim in claims:
        if claim.id in ids:
            raise ConfigError(f"{path}: two claims have the id {claim.id!r}; rename one")
        ids.add(claim.id)
    wrong = [f"{path}: claim {claim.id!r}: {complaint}" for claim in claims for complaint in _complaints(claim, scales)]
    if wrong:
        raise ConfigError("; ".join(wrong))
    return claims


def judge(estimate: Estimate | None, criterion: Criterion) -> Verdict:
    """Supported where the whole interval meets the criterion, refuted where none of it does, else inconclusive.

    An unknown interval (one seed) decides nothing. Nothing measured: "not measured".
    """
    if estimate is None or estimate.n == 0:
        return "not measured"
    low, high = estimate.low, estimate.high
    if math.isnan(low) or math.isnan(high):
        return "inconclusive"
    if criterion.within is not None:
        least, most = criterion.within
        supported, refuted = least <= low and high <= most, high < least or most < low
    elif criterion.above is not None:
        supported, refuted = low > criterion.above, high < criterion.above
    else:
        assert criterion.below is not None
        supported, refuted = high < criterion.below, low > criterion.below
    return "supported" if supported else "refuted" if refuted else "inconclusive"


def verdicts(claims: Iterable[Claim], numbers: Numbers, scale: str) -> list[Judged]:
    """Every claim with its verdict. A number that a study at hand does not have is an error."""
    judged = []
    for claim in claims:
        at_hand = all(study in numbers for study, _ in claim.numbers)
        found = _measured(claim, numbers) if at_hand else None
        estimate = found if scale in claim.scales else None
        judged.append(Judged(claim, estimate, judge(estimate, claim.criterion), at_hand))
    return judged


def drift(now: Sequence[Judged], recorded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each verdict that is not the recorded one, and for each recorded claim that is gone.

    recorded: claim id -> its entry. A claim that was never recorded is new, and one whose study is not at hand is not
    compared: neither is drift. A criterion that moved is, whatever the verdict.
    """
    sentences = []
    for item in now:
        before = recorded.get(item.claim.id)
        if before is None or not item.at_hand:
            continue
        name, verdict = item.claim.id, before["verdict"]
        if before.get("criterion", item.claim.digest) != item.claim.digest:
            sentences.append(f"claim {name} was recorded as {verdict} by another measure or criterion than it has now.")
        elif verdict != item.verdict:
            held = f"{item.claim.measure} is {format_estimate(item.estimate)}, the criterion is {item.claim.criterion}"
            sentences.append(f"claim {name} was recorded as {verdict} and is now {item.verdict}: {held}.")
    for gone in sorted(set(recorded) - {item.claim.id for item in now}):
        sentences.append(f"claim {gone} was recorded as {recorded[gone]['verdict']} and is no longer in the registry.")
    return sentences


def recorded_verdicts(path: Path, scale: str) -> dict[str, dict[str, Any]]:
    """claim id -> what is recorded of it at `scale`; empty where nothing was."""
    return _recorded(path).get(scale, {})


def record(path: Path, scale: str, judged: Sequence[Judged]) -> list[str]:
    """Record the verdicts at `scale`, whole or not at all; ids of the claims whose record stayed as it was.

    What is recorded of a claim whose studies are not at hand stays, and so do other scales. A claim that is no longer in
    the registry goes.
    """
    content = _recorded(path)
    before = content.get(scale, {})
    stayed = [item.claim.id for item in judged if not item.at_hand and item.claim.id in before]
    now = {item.claim.id: _entry(item) for item in judged if item.at_hand}
    content[scale] = {name: before[name] for name in stayed} | now
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return stayed


def claims_json(judged: Sequence[Judged], scale: str) -> str:
    """Every claim with its number and verdict, for other programs."""
    rows = []
    for item in judged:
        claim = item.claim.model_dump(mode="json", exclude_none=True)
        rows.append(claim | {k: v for k, v in _entry(item).items() if k != "criterion"})
    return json.dumps({"scale": scale, "claims": rows}, indent=1, allow_nan=False) + "\n"


def claims_tex(judged: Sequence[Judged]) -> str:
    r"""LaTeX that defines `\claimstable`, where every verdict looks alike, and the numbers `claims.<verdict>`."""
    counts = dict.fromkeys(CLAIM_COUNTS, 0) | {"total": len(judged)}
    for item in judged:
        counts[item.verdict.replace(" ", "_")] += 1
    rows = [
        {
            "statement": item.claim.statement,
            "origin": item.claim.origin,
            "criterion": str(item.claim.criterion),
            "measured": format_estimate(item.estimate),
            "verdict": item.verdict,
        }
        for item in judged
    ]
    return render("claims.tex.j2", {"counts": counts, "rows": rows})


def verify(
    registry: Path,
    numbers: Sequence[Path],
    scale: str,
    scales: Collection[str],
    recorded: Path,
    update: bool = False,
    console: Console | None = None,
) -> int:
    """Print every claim with its verdict and what drifted. Exit status: 1 where a verdict drifted, else 0.

    update: record the verdicts instead of comparing them.
    """
    console = console or Console()
    judged = verdicts(load(registry, scales), by_study(read_studies(numbers, scale)), scale)
    console.print(_console_table(judged, scale))
    if update:
        stayed = record(recorded, scale, judged)
        _say(console, f"{sum(item.at_hand for item in judged)} verdicts of scale {scale} recorded in {recorded}")
        if stayed:
            _say(console, f"the study was not at hand, so what is recorded stays: {', '.join(stayed)}")
        return 0
    before = recorded_verdicts(recorded, scale)
    if not before:
        _say(console, f"nothing is recorded for scale {scale} in {recorded}; record these verdicts with --record")
    missing = [item.claim.id for item in judged if not item.at_hand and item.claim.id in before]
    if missing:
        _say(console, f"the study is not at hand, so the record is not compared: {', '.join(missing)}")
    sentences = drift(judged, before)
    for sentence in sentences:
        _say(console, sentence, "drift: ")
    return 1 if sentences else 0


def _match(measure: str) -> re.Match[str]:
    match = MEASURE.fullmatch(measure)
    assert match is not None
    return match


def _complaints(claim: Claim, scales: Collection[str]) -> list[str]:
    found = [f"scale {scale!r} does not exist{nearest(scale, sorted(scales))}" for scale in claim.scales if scale not in scales]
    for study, name in claim.numbers:
        if study not in printers.names():
            found.append(f"study {study!r} does not exist{nearest(study, printers.names())}")
        elif name not in printers.load(study).NUMBERS:
            found.append(f"study {study} has no number {name!r}{nearest(name, list(printers.load(study).NUMBERS))}")
    return found


def _measured(claim: Claim, numbers: Numbers) -> Estimate:
    found = []
    for study, name in claim.numbers:
        if name not in numbers[study]:
            where = f"claim {claim.id!r}: study {study} has no number {name!r}"
            raise ConfigError(where + nearest(name, list(numbers[study])))
        found.append(numbers[study][name])
    if claim.operation == "-":
        if found[0].unit != found[1].unit:
            units = f"{found[0].unit or 'a plain number'} and {found[1].unit or 'a plain number'}"
            raise ConfigError(f"claim {claim.id!r}: {claim.measure} takes {units} apart; compare what has one unit")
        return found[0].minus(found[1])
    return found[0].over(found[1]) if claim.operation == "/" else found[0]


def _console_table(judged: Sequence[Judged], scale: str) -> ConsoleTable:
    table = ConsoleTable("claim", "measure", "criterion", "measured", "verdict", title=f"claims at scale {scale}")
    for item in judged:
        claim, style = item.claim, STYLES[item.verdict]
        cells = (claim.id, claim.measure, str(claim.criterion), format_estimate(item.estimate))
        table.add_row(*(Text(cell) for cell in cells), Text(item.verdict, style))
    return table


def _say(console: Console, sentence: str, warning: str = "") -> None:
    console.print(Text.assemble((warning, "bold red"), sentence), soft_wrap=True, highlight=False)


def _entry(item: Judged) -> dict[str, Any]:
    return {"verdict": item.verdict, "criterion": item.claim.digest, **to_json(item.estimate or Estimate.missing())}


def _recorded(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """scale -> claim id -> entry; empty where there is no such file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(read_text(path))
        entries = [entry for claims in content.values() for entry in claims.values()]
        damaged = not all(entry["verdict"] in get_args(Verdict) for entry in entries)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        damaged = True
    if damaged:
        raise ConfigError(f"{path}: not a file of verdicts; restore it with git, or delete it and use --record")
    return content
