"""Claims that execute: a criterion written down before the run, and a verdict derived from a study's numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Table as ConsoleTable
from rich.text import Text

from ripstop import yaml_file
from ripstop.config import ConfigError, Strict, nearest
from ripstop.files import write_text
from ripstop.paper.latex import render
from ripstop.paper.numbers import CLAIM_COUNTS, Numbers, by_study, format_estimate, read_studies, to_json
from ripstop.statistics import Estimate

Verdict = Literal["supported", "refuted", "inconclusive", "not measured"]
STYLES: dict[Verdict, str] = {
    "supported": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not measured": "bright_black",
}


class Criterion(Strict):
    """Exactly one of: the number lies above a level, below one, or within two."""

    above: float | None = Field(None, allow_inf_nan=False)
    below: float | None = Field(None, allow_inf_nan=False)
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

    source: where it comes from, a paper or "hypothesis".
    measure: the name of a number of `study`, as its paper module gives them.
    scales: where the claim is meant to hold; elsewhere it is "not measured".
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    statement: str = Field(min_length=1)
    source: str = Field(min_length=1)
    study: str
    measure: str
    criterion: Criterion
    scales: list[str] = Field(min_length=1)


class Registry(Strict):
    """paper/claims.yaml."""

    claims: list[Claim]


@dataclass(frozen=True)
class Judged:
    """A claim with the number it was held against (None: not measured) and what follows."""

    claim: Claim
    estimate: Estimate | None
    verdict: Verdict


def load(path: Path) -> list[Claim]:
    """The claims of a registry, in its order."""
    values = yaml_file.mapping(path, "the claims are kept in paper/claims.yaml")
    claims = Registry.parse(values, str(path)).claims
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ConfigError(f"{path}: two claims have the id {claim.id!r}; rename one")
        seen.add(claim.id)
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
    """Every claim with its verdict. A measure that a measured study does not have is an error."""
    judged = []
    for claim in claims:
        named = numbers.get(claim.study)
        if named is not None and claim.measure not in named:
            where = f"claim {claim.id!r}: study {claim.study} has no number {claim.measure!r}"
            raise ConfigError(where + nearest(claim.measure, list(named)))
        estimate = named[claim.measure] if named is not None and scale in claim.scales else None
        judged.append(Judged(claim, estimate, judge(estimate, claim.criterion)))
    return judged


def drift(now: Sequence[Judged], recorded: Mapping[str, Verdict]) -> list[str]:
    """One sentence for each verdict that is not the recorded one, and for each recorded claim that is gone.

    A claim that was never recorded is new, not drift.
    """
    sentences = []
    for item in now:
        before = recorded.get(item.claim.id, item.verdict)
        if before != item.verdict:
            held = f"{item.claim.measure} is {format_estimate(item.estimate)}, the criterion is {item.claim.criterion}"
            sentences.append(f"claim {item.claim.id} was recorded as {before} and is now {item.verdict}: {held}.")
    for gone in sorted(set(recorded) - {item.claim.id for item in now}):
        sentences.append(f"claim {gone} was recorded as {recorded[gone]} and is no longer in the registry.")
    return sentences


def recorded_verdicts(path: Path, scale: str) -> dict[str, Verdict]:
    """claim id -> verdict as recorded at `scale`; empty where nothing was."""
    return {name: values["verdict"] for name, values in _recorded(path).get(scale, {}).items()}


def record(path: Path, scale: str, judged: Sequence[Judged]) -> None:
    """Replace what is recorded at `scale`, whole or not at all; other scales stay."""
    content = _recorded(path) | {scale: {item.claim.id: _entry(item) for item in judged}}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_claims(registry: Path, numbers: Sequence[Path], scale: str, out: Path, table: Path) -> None:
    """claims.json (`out`) and the LaTeX of the claims table (`table`)."""
    judged = verdicts(load(registry), by_study(read_studies(numbers, scale)), scale)
    rows = [item.claim.model_dump(mode="json", exclude_none=True) | _entry(item) for item in judged]
    write_text(out, json.dumps({"scale": scale, "claims": rows}, indent=1, allow_nan=False) + "\n")
    write_text(table, claims_tex(judged))


def claims_tex(judged: Sequence[Judged]) -> str:
    r"""LaTeX that defines `\claimstable`, where every verdict looks alike, and the numbers `claims.<verdict>`."""
    counts = dict.fromkeys(CLAIM_COUNTS, 0) | {"total": len(judged)}
    for item in judged:
        counts[item.verdict.replace(" ", "_")] += 1
    rows = [
        {
            "statement": item.claim.statement,
            "source": item.claim.source,
            "name": f"{item.claim.study}.{item.claim.measure}",
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
    recorded: Path,
    update: bool = False,
    console: Console | None = None,
) -> int:
    """Print every claim with its verdict and what drifted. Exit status: 1 where a verdict drifted, else 0.

    update: record the verdicts instead of comparing them.
    """
    console = console or Console()
    judged = verdicts(load(registry), by_study(read_studies(numbers, scale)), scale)
    console.print(_console_table(judged, scale))
    if update:
        record(recorded, scale, judged)
        console.print(f"{len(judged)} verdicts of scale {scale} recorded in {recorded}")
        return 0
    before = recorded_verdicts(recorded, scale)
    if not before:
        console.print(f"nothing is recorded for scale {scale} in {recorded}; record these verdicts with --record")
    sentences = drift(judged, before)
    for sentence in sentences:
        console.print(f"[bold red]drift:[/] {sentence}", soft_wrap=True, highlight=False)
    return 1 if sentences else 0


def _console_table(judged: Sequence[Judged], scale: str) -> ConsoleTable:
    table = ConsoleTable("claim", "measure", "criterion", "measured", "verdict", title=f"claims at scale {scale}")
    for item in judged:
        claim, style = item.claim, STYLES[item.verdict]
        cells = (claim.id, f"{claim.study}.{claim.measure}", str(claim.criterion), format_estimate(item.estimate))
        table.add_row(*(Text(cell) for cell in cells), Text(item.verdict, style))
    return table


def _entry(item: Judged) -> dict[str, object]:
    return {"verdict": item.verdict, **to_json(item.estimate or Estimate.missing())}


def _recorded(path: Path) -> dict[str, dict[str, dict[str, Verdict]]]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a file of verdicts; restore it with git, or delete it and use --record")
    return content
