"""Recorded verdicts, paper/verdicts.json: what each claim was decided to be, by which numbers, criterion and commits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ripstop.claims.registration import Registration
from ripstop.claims.verdicts import Judged, Verdict
from ripstop.config import ConfigError
from ripstop.files import read_text, write_text
from ripstop.paper.numbers import to_json
from ripstop.statistics import Estimate

Recorded = dict[str, dict[str, Any]]
"""claim id -> its entry"""


def entry(item: Judged, commits: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What is recorded of a claim. criterion: the digest of what decided. commits: study -> where its runs were made."""
    values: dict[str, Any] = {"verdict": item.verdict, "criterion": item.claim.digest}
    if item.failed:
        values["failed"] = list(item.failed)
    if item.registration is not None:
        values |= {"registration": item.registration.status, "reason": item.registration.reason}
    found = {study: list(commits[study]) for study in item.claim.studies if study in commits}
    return values | {"commits": found} | to_json(item.estimate or Estimate.missing())


def recorded_verdicts(path: Path, scale: str) -> Recorded:
    """What is recorded at `scale`; empty where nothing was."""
    return _read(path).get(scale, {})


def record(path: Path, scale: str, judged: Sequence[Judged], commits: Mapping[str, Sequence[str]]) -> list[str]:
    """Record the verdicts at `scale`, whole or not at all; ids of the claims whose record stayed as it was.

    What is recorded of a claim whose studies are not at hand stays, and so do other scales. A claim that is no longer in
    the registry goes.
    """
    content = _read(path)
    before = content.get(scale, {})
    stayed = [item.claim.id for item in judged if not item.at_hand and item.claim.id in before]
    now = {item.claim.id: entry(item, commits) for item in judged if item.at_hand}
    content[scale] = {name: before[name] for name in stayed} | now
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return stayed


def drift(now: Sequence[Judged], recorded: Recorded) -> list[str]:
    """One sentence for each verdict that is not the recorded one, and for each recorded claim that is gone.

    A claim that was never recorded is new, and one whose study is not at hand is not compared: neither is drift. A
    criterion that moved is, whatever the verdict.
    """
    sentences = []
    for item in now:
        before = recorded.get(item.claim.id)
        if before is None or not item.at_hand:
            continue
        name, verdict = item.claim.id, before["verdict"]
        digest = before.get("criterion", item.claim.digest)
        if digest != item.claim.digest:
            criteria = f"the record's criterion has digest {digest}, that of the registry {item.claim.digest}"
            sentences.append(f"claim {name} was recorded as {verdict} by another criterion than it has now: {criteria}")
        elif verdict != item.verdict:
            failed = f", and {', '.join(item.failed)} failed" if item.failed else ""
            sentences.append(f"claim {name} was recorded as {verdict} and is now {item.verdict}: {item.held}{failed}")
    for gone in sorted(set(recorded) - {item.claim.id for item in now}):
        sentences.append(f"claim {gone} was recorded as {recorded[gone]['verdict']} and is no longer in the registry")
    return sentences


def settled(judged: Sequence[Judged], before: Recorded) -> tuple[list[Judged], str]:
    """Where git cannot be asked, the recorded registrations in place of unknown ones, and why it could not."""
    found, why = [], ""
    for item in judged:
        now, recorded = item.registration, before.get(item.claim.id, {})
        if now is not None and now.status == "registration unknown" and not now.since:
            why = now.reason
            if recorded.get("registration") and recorded.get("criterion") == item.claim.digest:
                item = replace(item, registration=Registration(recorded["registration"], str(recorded.get("reason", ""))))
        found.append(item)
    return found, why


def _read(path: Path) -> dict[str, Recorded]:
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
