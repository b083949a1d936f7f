"""The page: rows for its template, and its text."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ripstop.files import read_text
from ripstop.paper.numbers import format_estimate, from_json
from ripstop.report.drawing import held_against
from ripstop.why.answer import why
from ripstop.why.paper import Paper

MOVES_NO_NUMBER = "it shows what was printed"

TEMPLATES = Path(__file__).parent / "templates"
VERDICTS = ("supported", "refuted", "inconclusive", "undecided", "not_measured")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'"
"""A browser runs the page's own script alone, and asks no network, whatever the results hold."""


def html(values: Mapping[str, Any]) -> str:
    """The page with `values`, each escaped. data: JSON, which the page's script reads."""
    script = read_text(TEMPLATES / "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    laid = {
        **values,
        "verdicts": VERDICTS,
        # Nothing in it can end the element that it stands in.
        "data": Markup(values["data"].replace("<", "\\u003c")),
        "style": Markup(read_text(TEMPLATES / "report.css")),
        "script": Markup(script),
        "policy": POLICY.format(digest),
    }
    return _environment().get_template("report.html.j2").render(laid)


def claim_rows(paper: Paper) -> list[dict[str, Any]]:
    """Claims, then controls, as the page shows them: by verdict, then in the order of the registry."""
    rows = []
    for row in paper.claims.values():
        answer = why(paper, row["id"])
        measured = format_estimate(from_json(row)) if "value" in row else ""
        verdict = row["verdict"].partition(":")[0].replace(" ", "_")
        told = {"class": verdict, "criterion": answer.said["criterion"], "measured": measured, "drawing": held_against(row)}
        rows.append(row | told)
    return sorted(rows, key=lambda row: (row["role"] == "control", VERDICTS.index(row["class"])))


def number_rows(paper: Paper, studies: Sequence[str]) -> list[dict[str, Any]]:
    """Every printed number, in the order of its study's printer."""
    return [
        {"name": f"{study}.{name}", **number} for study in studies for name, number in paper.studies[study]["numbers"].items()
    ]


def breakable(name: str) -> Markup:
    """A line may end within it."""
    return Markup("<wbr>").join(re.split(r"(?<=[_.])(?=\w)", name))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=True,
    )
    environment.filters |= {"breakable": breakable}
    return environment
