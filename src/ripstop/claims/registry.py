"""The registry of claims, paper/claims.yaml: statements, the criteria that decide them, and the controls that they need."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ripstop import yaml_file
from ripstop.config import NAME, ConfigError, Strict, nearest
from ripstop.paper import studies as printers
from ripstop.provenance import digest

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

    role: `control` is what must hold for the protocol of a study to be trusted: attention recalls, the wrong source gives
        nothing. It is judged like a claim, and counted apart.
    origin: where it comes from, a paper or "hypothesis".
    measure: `study.number` as the study's printer names it, or two of them, `a.x - b.y` or `a.x / b.y`.
    needs: ids of the controls without which its number means nothing. Where one does not hold, the claim is undecided.
    scales: where the claim is meant to hold; elsewhere it is "not measured".
    """

    id: str = Field(pattern=rf"^{NAME.pattern}$")
    role: Literal["claim", "control"] = "claim"
    statement: str = Field(min_length=1)
    origin: str = Field(min_length=1)
    measure: str
    criterion: Criterion
    needs: list[str] = []
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
    def studies(self) -> list[str]:
        """The one or two studies that measure it."""
        return list(dict.fromkeys(study for study, _ in self.numbers))

    @property
    def digest(self) -> str:
        """Of what decides the verdict at a scale: id, role, measure, criterion, needs. The wording is free to improve."""
        return digest(_deciding(self.id, self.role, self.measure, self.criterion, self.needs))


class Registry(Strict):
    """paper/claims.yaml."""

    claims: list[Claim]


def load(path: Path, scales: Collection[str]) -> list[Claim]:
    """The claims of a registry, in its order. What a claim names and does not exist is an error.

    scales: every scale there is. Studies and their numbers are those of the printers, whether they were run or not.
    """
    claims = Registry.parse(yaml_file.mapping(path, "the claims are kept in paper/claims.yaml"), str(path)).claims
    known: dict[str, Claim] = {}
    for claim in claims:
        if claim.id in known:
            raise ConfigError(f"{path}: two claims have the id {claim.id!r}; rename one")
        known[claim.id] = claim
    wrong = [
        f"{path}: claim {claim.id!r}: {complaint}"
        for claim in claims
        for complaint in [*_measure_complaints(claim, scales), *_needs_complaints(claim, known)]
    ]
    if wrong:
        raise ConfigError("; ".join(wrong))
    return claims


def stood(text: str, where: str) -> set[tuple[str, str]]:
    """(digest, scale) of every criterion that a version of the registry held, whatever its format was.

    An entry that no claim of today can be read from held no criterion of today, and is passed over.
    """
    try:
        entries = yaml_file.parse(text, where)["claims"]
    except (ConfigError, KeyError, TypeError):
        return set()
    found: set[tuple[str, str]] = set()
    for entry in entries if isinstance(entries, list) else []:
        try:
            criterion = Criterion.parse(entry["criterion"], where)
            values = _deciding(entry["id"], entry.get("role", "claim"), entry["measure"], criterion, entry.get("needs", []))
            found |= {(digest(values), scale) for scale in entry["scales"]}
        except (ConfigError, KeyError, TypeError, AttributeError):
            continue
    return found


def _deciding(id_: str, role: str, measure: str, criterion: Criterion, needs: Sequence[str]) -> str:
    values: dict[str, Any] = {"id": id_, "role": role, "measure": measure, "needs": sorted(needs)}
    return json.dumps(values | {"criterion": criterion.model_dump(mode="json")}, sort_keys=True)


def _match(measure: str) -> re.Match[str]:
    match = MEASURE.fullmatch(measure)
    assert match is not None
    return match


def _measure_complaints(claim: Claim, scales: Collection[str]) -> list[str]:
    found = [f"scale {scale!r} does not exist{nearest(scale, sorted(scales))}" for scale in claim.scales if scale not in scales]
    for study, name in claim.numbers:
        if study not in printers.names():
            found.append(f"study {study!r} does not exist{nearest(study, printers.names())}")
        elif name not in printers.load(study).NUMBERS:
            found.append(f"study {study} has no number {name!r}{nearest(name, list(printers.load(study).NUMBERS))}")
    return found


def _needs_complaints(claim: Claim, known: dict[str, Claim]) -> list[str]:
    """Controls need nothing, so that no circle can arise."""
    if claim.role == "control" and claim.needs:
        return [f"needs: a control needs nothing (got {', '.join(claim.needs)}); let the claims need each of them"]
    controls = sorted(other.id for other in known.values() if other.role == "control")
    found = []
    for name in claim.needs:
        if name not in known:
            found.append(f"needs: there is no control {name!r}{nearest(name, controls)}")
        elif known[name].role != "control":
            found.append(f"needs: {name!r} is no control; give it `role: control`, or need another")
        else:
            missing = [scale for scale in claim.scales if scale not in known[name].scales]
            if missing:
                found.append(f"needs: control {name!r} is not meant for scale {missing[0]}; add the scale to it")
    if len(set(claim.needs)) != len(claim.needs):
        found.append("needs: names a control twice; remove one")
    return found
