"""The recorded verdicts against those that follow now, and, where records are missing, against the metrics in git."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ripstop.claims.recorded import Recorded, drift, entry
from ripstop.claims.registration import Evidence
from ripstop.claims.registry import Claim
from ripstop.claims.verdicts import Judged
from ripstop.config import ConfigError
from ripstop.files import read_object
from ripstop.paper.numbers import Numbers, from_json
from ripstop.statistics import Estimate
from ripstop.verify.differences import value_differences


def check_recorded(file: Path, judged: Sequence[Judged], before: Recorded, commits: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence for each verdict, number, digest or registration that is not the recorded one."""
    if not before:
        return []
    told = [f"{file}: {sentence}" for sentence in drift(judged, before)]
    for item in judged:
        recorded = before.get(item.claim.id)
        if recorded is None:
            if item.at_hand and item.verdict != "not measured":
                told.append(f"{file}: claim {item.claim.id} is not recorded and is now {item.verdict}: {item.held}")
        elif item.at_hand and "criterion" not in recorded:
            told.append(f"{file}: {item.claim.id}.criterion is missing, the registry gives {item.claim.digest}")
        elif item.at_hand:
            found, wanted = _compared(recorded), _compared(entry(item, commits))
            told += [f"{file}: {line}" for line in value_differences(found, wanted, "the numbers give", item.claim.id)]
    return told


def _compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what `drift` tells of, and the reason of a registration, which changes with the commits since."""
    return {key: value for key, value in values.items() if key not in ("verdict", "criterion", "reason")}


def from_record(claims: Sequence[Claim], numbers: Numbers, before: Recorded, file: Path) -> dict[str, Estimate]:
    """claim -> its recorded number, of the claims on a study whose numbers are not here."""
    try:
        return {
            claim.id: from_json(before[claim.id])
            for claim in claims
            if claim.id in before and not all(study in numbers for study in claim.studies)
        }
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{file}: not a file of verdicts; restore it with git, or delete it and use --record") from None


def check_metrics(claims: Sequence[Claim], estimates: Mapping[str, Estimate], metrics: Path, file: Path) -> list[str]:
    """Recorded numbers against the metrics in git, results/metrics/<scale>, which keep six digits."""
    told = []
    for claim in claims:
        if claim.id not in estimates or claim.operation:
            continue
        ((study, name),) = claim.numbers
        known, value = read_metrics(metrics / f"{study}.json"), estimates[claim.id].value
        if known and known.get(name) != (float(f"{value:.6g}") if value == value else None):
            told.append(f"{file}: {claim.id}.value is {value!r}, {metrics / study}.json has {known.get(name)!r}")
    return told


def evidence_of(study: str, metrics: Path, before: Recorded) -> Evidence:
    """What the files in git say of the results of a study whose numbers are not here."""
    commits = [commit for values in before.values() for commit in (values.get("commits") or {}).get(study, [])]
    return Evidence(read_metrics(metrics / f"{study}.json"), list(dict.fromkeys(commits)))


def read_metrics(file: Path) -> dict[str, Any]:
    """Name -> value; empty where there is no such file."""
    return read_object(file, "not a file of metrics; restore it with git") if file.is_file() else {}
