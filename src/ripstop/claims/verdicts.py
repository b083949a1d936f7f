"""Verdicts: each claim held against the studies' numbers, and left undecided where a control that it needs does not hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ripstop.claims.registration import Evidence, Registration, register
from ripstop.claims.registry import Claim, Criterion
from ripstop.config import ConfigError, nearest
from ripstop.paper.numbers import Numbers, format_estimate
from ripstop.statistics import Estimate

Verdict = Literal["supported", "refuted", "inconclusive", "undecided: control failed", "not measured"]
UNDECIDED: Verdict = "undecided: control failed"


@dataclass(frozen=True)
class Judged:
    """A claim with the number it was held against (None: not measured) and what follows.

    failed: the controls that it needs and that do not hold.
    at_hand: the numbers of all of its studies, and of its controls' studies, were there to be asked.
    registration: what git says of its criterion; None where nothing was measured, or nobody asked.
    """

    claim: Claim
    estimate: Estimate | None
    verdict: Verdict
    failed: tuple[str, ...] = ()
    at_hand: bool = True
    registration: Registration | None = None

    @property
    def held(self) -> str:
        """What was held against what: `mqar_cliff.chance is 0.016, the criterion is < 0.1`."""
        return f"{self.claim.measure} is {format_estimate(self.estimate)}, the criterion is {self.claim.criterion}"


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


def verdicts(claims: Sequence[Claim], numbers: Numbers, scale: str) -> list[Judged]:
    """Every claim with its verdict. A number that a study at hand does not have is an error."""
    estimates = {}
    for claim in claims:
        found = _measured(claim, numbers) if all(study in numbers for study in claim.studies) else None
        estimates[claim.id] = found if scale in claim.scales else None
    return judged(claims, estimates, numbers)


def judged(claims: Sequence[Claim], estimates: Mapping[str, Estimate | None], at_hand: Collection[str]) -> list[Judged]:
    """The verdicts that follow from the claims' own estimates. at_hand: the studies whose numbers were asked."""
    alone = {claim.id: judge(estimates.get(claim.id), claim.criterion) for claim in claims}
    studies = {claim.id: set(claim.studies) for claim in claims}
    found = []
    for claim in claims:
        verdict, failed = alone[claim.id], tuple(name for name in claim.needs if alone[name] != "supported")
        if failed and verdict != "not measured":
            verdict = UNDECIDED
        asked = studies[claim.id].union(*(studies[name] for name in claim.needs))
        found.append(Judged(claim, estimates.get(claim.id), verdict, failed, asked <= set(at_hand)))
    return found


def registered(found: Sequence[Judged], registry: Path, scale: str, evidence: Mapping[str, Evidence]) -> list[Judged]:
    """The verdicts with what git says of their criteria. evidence: study -> its results."""
    measured = [item.claim.id for item in found if item.verdict != "not measured"]
    asked = register([item.claim for item in found], measured, registry, scale, evidence)
    return [replace(item, registration=asked.get(item.claim.id)) for item in found]


@dataclass(frozen=True)
class FailedControl:
    """A control that does not hold where it is meant to.

    studies: whose protocol it puts in doubt, its own and those of the claims that need it.
    undecided: how many claims it leaves so.
    """

    control: Judged
    studies: tuple[str, ...]
    undecided: int


def failed_controls(found: Iterable[Judged], scale: str, at_hand: Collection[str]) -> list[FailedControl]:
    """The controls that failed at `scale` and put a study at hand in doubt: refuted, inconclusive or not measured."""
    found = list(found)
    failed = []
    for item in found:
        if item.claim.role != "control" or item.verdict == "supported" or scale not in item.claim.scales:
            continue
        left = [other for other in found if item.claim.id in other.failed]
        studies = dict.fromkeys([*item.claim.studies, *(study for other in left for study in other.claim.studies)])
        touched = tuple(study for study in studies if study in at_hand)
        if touched:
            failed.append(FailedControl(item, touched, sum(other.verdict == UNDECIDED for other in left)))
    return failed


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
