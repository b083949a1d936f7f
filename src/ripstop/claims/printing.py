"""Claims in the paper, for other programs and on a terminal: every verdict looks alike, and a failed control is told."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.table import Table as ConsoleTable
from rich.text import Text

from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.claims.recorded import entry
from ripstop.claims.registry import Claim
from ripstop.claims.verdicts import UNDECIDED, FailedControl, Judged, Verdict, failed_controls
from ripstop.paper.latex import render
from ripstop.paper.numbers import format_estimate

STYLES: dict[Verdict, str] = {
    "supported": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    UNDECIDED: "magenta",
    "not measured": "bright_black",
}


def claims_json(judged: Sequence[Judged], scale: str, commits: Mapping[str, Sequence[str]]) -> str:
    """Every claim with its number and verdict, and the controls that failed, for other programs.

    commits: study -> where its runs were made.
    """
    rows = []
    for item in judged:
        found = entry(item, commits)
        row: dict[str, Any] = item.claim.model_dump(mode="json", exclude_none=True) | {"digest": found.pop("criterion")}
        rows.append(row | found)
    failed = [
        {"id": f.control.claim.id, "verdict": f.control.verdict, "studies": f.studies, "undecided": f.undecided}
        for f in failed_controls(judged, scale, commits)
    ]
    return json.dumps({"scale": scale, "failed_controls": failed, "claims": rows}, indent=1, allow_nan=False) + "\n"


def claims_tex(judged: Sequence[Judged], scale: str, at_hand: Collection[str]) -> str:
    r"""LaTeX of what the paper says of its claims.

    `\claimstable`, the numbers `claims.<count>`, `\ripstopverdict{claim}{...}`, and where a control failed
    `\failedcontrols`, a sentence for the abstract, `\ripstopcontrols{study}{...}`, which every caption of that study's section
    ends with, and `\ripstoptakeaway{study}{...}`, which the section itself ends with: the controls that failed, and the study's
    claims by their verdicts.
    at_hand: the studies of the paper.
    """
    failed = failed_controls(judged, scale, at_hand)
    values = {
        "counts": _counts(judged, failed),
        "controls": [_row(item, at_hand) for item in judged if item.claim.role == "control"],
        "claims": [_row(item, at_hand) for item in judged if item.claim.role == "claim"],
        "failed": [_failure(f) for f in failed],
        "takeaways": {study: _by_verdict(judged, study) for study in dict.fromkeys(i.claim.studies[0] for i in judged)},
        "studies": {study: [_failure(f) for f in failed if study in f.studies] for f in failed for study in f.studies},
    }
    return render("claims.tex.j2", values)


def console_table(judged: Sequence[Judged], scale: str) -> ConsoleTable:
    """Controls first."""
    table = ConsoleTable(title=f"claims at scale {scale}")
    for heading in ("claim", "measure", "criterion", "measured", "verdict", ""):
        table.add_column(heading, overflow="fold")
    for item in sorted(judged, key=lambda item: item.claim.role == "claim"):
        claim = item.claim
        name = f"{claim.id} (control)" if claim.role == "control" else claim.id
        cells = (name, claim.measure, str(claim.criterion), format_estimate(item.estimate))
        verdict = Text(item.verdict, STYLES[item.verdict])
        table.add_row(*(Text(cell) for cell in cells), verdict, Text(item.registration.status if item.registration else ""))
    return table


def failure_sentence(failed: FailedControl) -> str:
    """`control x failed (refuted: mqar_cliff.chance is 0.5, the criterion is < 0.1); it puts mqar_cliff in doubt, ...`"""
    item = failed.control
    left = {0: "", 1: " and leaves 1 claim undecided"}.get(failed.undecided, f" and leaves {failed.undecided} claims undecided")
    doubt = f"it puts {', '.join(failed.studies)} in doubt{left}"
    return f"control {item.claim.id} failed ({item.verdict}: {item.held}); {doubt}"


def _counts(judged: Sequence[Judged], failed: Sequence[FailedControl]) -> dict[str, int]:
    claims = [item for item in judged if item.claim.role == "claim"]
    counts = dict.fromkeys(CLAIM_COUNTS, 0)
    counts |= {"total": len(claims), "controls": len(judged) - len(claims), "controls_failed": len(failed)}
    for item in claims:
        counts[item.verdict.partition(":")[0].replace(" ", "_")] += 1
        if item.registration is not None and item.registration.status in counts:
            counts[item.registration.status] += 1
    return counts


def entry_of(claim: Claim) -> str:
    """Where the number of a claim links to in the appendix: the entry of its number, or its own where it takes two."""
    return f"claim.{claim.id}" if claim.operation else f"number.{claim.measure}"


def _row(item: Judged, at_hand: Collection[str]) -> dict[str, str]:
    return {
        "id": item.claim.id,
        "entry": entry_of(item.claim) if set(item.claim.studies) <= set(at_hand) else "",
        "statement": item.claim.statement,
        "origin": item.claim.origin,
        "criterion": str(item.claim.criterion),
        "measured": format_estimate(item.estimate),
        "verdict": item.verdict,
        "failed": ", ".join(item.failed) if item.verdict == UNDECIDED else "",
        "registration": item.registration.status if item.registration else "",
    }


def _by_verdict(judged: Sequence[Judged], study: str) -> dict[str, list[str]]:
    """Verdict -> what was claimed of the study's numbers; with the number where it was not as claimed."""
    of_study = [item for item in judged if item.claim.role == "claim" and item.claim.studies[0] == study]
    found = {verdict: [_taken(item) for item in of_study if item.verdict == verdict] for verdict in STYLES}
    return {verdict: statements for verdict, statements in found.items() if statements}


def _taken(item: Judged) -> str:
    """`Recall breaks there (1.8 [1.5, 2.1], claimed within [0.8, 1.25]).`"""
    if item.verdict in ("supported", "not measured"):
        return item.claim.statement
    return f"{item.claim.statement.rstrip('.')} ({format_estimate(item.estimate)}, claimed {item.claim.criterion})."


def _failure(failed: FailedControl) -> str:
    """`Attention recalls (refuted: 0.05 [0.04, 0.06], needed > 0.9)`"""
    item = failed.control
    held = f"{item.verdict}: {format_estimate(item.estimate)}" if item.estimate else item.verdict
    return f"{item.claim.statement.rstrip('.')} ({held}, needed {item.claim.criterion})"
