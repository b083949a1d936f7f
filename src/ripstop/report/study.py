"""What the page shows of one study."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ripstop import provenance
from ripstop.config import ConfigError
from ripstop.files import read_text
from ripstop.paper.numbers import SECTIONS
from ripstop.paper.render import draw_study
from ripstop.report.anchors import anchor, run_anchor
from ripstop.report.beside import Beside, Texts, beside
from ripstop.report.captions import section
from ripstop.report.drawing import Points, curves, embedded, width
from ripstop.why.answer import cell
from ripstop.why.paper import Paper, stood_on

MOVES_NO_NUMBER = "it shows what was printed"

LEARNING = ("learning_curve", "held_out_loss")
"""Part and metric of the losses that records keep."""


@dataclass(frozen=True)
class ShownFigure:
    """address: of its image; "" where it could not be drawn. width: in CSS pixels at the size that it has in the paper."""

    name: str
    address: str
    width: int
    caption: str


@dataclass(frozen=True)
class ShownTable:
    """rows: of (anchor, text)."""

    name: str
    caption: str
    header: Sequence[str]
    rows: list[list[tuple[str, str]]]


@dataclass(frozen=True)
class ShownRun:
    """varied: what distinguishes it from the others of its study."""

    anchor: str
    name: str
    varied: list[str]
    ended: str
    commit: str
    device: str


@dataclass(frozen=True)
class StudyPage:
    """curves: arm -> panel. texts, pictures: of the first seed of each arm. absent: what is not here, and how to get it.
    undrawn: why there are no figures; "" where there are."""

    name: str
    title: str
    question: str
    claims: Sequence[Mapping[str, Any]]
    figures: list[ShownFigure]
    tables: list[ShownTable]
    factors: list[str]
    runs: list[ShownRun]
    curves: dict[str, Markup]
    texts: list[Texts]
    pictures: dict[str, str]
    absent: str
    undrawn: str


def study_page(
    paper: Paper,
    study: str,
    claims: Sequence[Mapping[str, Any]],
    reads: Mapping[str, Path],
    dropped: Sequence[str],
    root: Path,
) -> StudyPage:
    """claims: those that it measures. reads, dropped: as `render_study` takes them."""
    records = paper.records(study, paper.studies[study]["records"][study])
    printed = {f"{study}.{name}": number["printed"] for name, number in paper.studies[study]["numbers"].items()}
    told = section(root / "paper" / SECTIONS / f"{study}.tex", printed)
    first = {record["run"]: record for record in reversed(records)}
    runs = dict(sorted(first.items()))
    lying = {run: beside(paper.results / study / "runs" / run) for run in runs}
    firsts = [run for _, (run, *_) in _arms(runs).items()]
    factors = list(dict.fromkeys(factor for record in runs.values() for factor in record["factors"]))
    drawn, undrawn = _drawn(study, paper.records_file(study), reads, dropped)
    return StudyPage(
        name=study,
        title=told.title or study,
        question=_question(study),
        claims=claims,
        figures=[
            ShownFigure(f"figures/{name}", *drawn.get(name, ("", 0)), told.captions.get(name, name))
            for name in paper.studies[study]["figures"]
        ],
        tables=[_table(paper, study, name) for name in paper.studies[study]["tables"]],
        factors=[*factors, "seed"],
        runs=[_run(paper, study, record, factors, lying[run].ended) for run, record in runs.items()],
        curves=_curves(runs, records, lying),
        texts=[texts for run in firsts for texts in lying[run].texts],
        pictures={run: lying[run].picture for run in firsts if lying[run].picture},
        absent="" if any(one.ended for one in lying.values()) or not _trains(paper, study) else _fetch(study),
        undrawn=undrawn,
    )


def _drawn(
    study: str, records: Path, reads: Mapping[str, Path], dropped: Sequence[str]
) -> tuple[dict[str, tuple[str, int]], str]:
    """Figure -> its image and width; and why there are none, as where the printer asks for arms that are yet to be trained."""
    try:
        figures = draw_study(study, records, reads, dropped)
    except ConfigError as error:
        return {}, f"{study}: its figures are not drawn; {error}"
    return {name: (embedded(figure), width(figure)) for name, figure in figures.items()}, ""


def _fetch(study: str) -> str:
    return (
        f"Training losses, samples and pictures of what is selected lie with the runs, which are not here: "
        f"`workflow/scripts/restore {study}` fetches them from the DVC remote, and `snakemake study_{study}` makes them."
    )


def _trains(paper: Paper, study: str) -> bool:
    return any("train" in run.get("stages", {}) for run in paper.origins(study).values())


def _table(paper: Paper, study: str, name: str) -> ShownTable:
    table = paper.studies[study]["tables"][name]
    rows = [
        [(anchor(cell(paper, name, row, column).name), one["printed"]) for column, one in enumerate(cells)]
        for row, cells in enumerate(table["rows"])
    ]
    return ShownTable(f"tables/{name}", table["caption"], table["header"], rows)


def _run(paper: Paper, study: str, record: Mapping[str, Any], factors: Sequence[str], ended: str) -> ShownRun:
    stood = stood_on(paper.origins(study).get(record["run"], {}))
    varied = [str(record["factors"].get(factor, "")) for factor in factors]
    return ShownRun(
        run_anchor(study, record["run"]),
        record["run"],
        [*varied, str(record["seed"])],
        ended or "measured",
        stood.get("commit") or record["commit"],
        stood.get("device") or record["device"],
    )


def _arms(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Arm -> its runs, by seed."""
    found: dict[str, list[str]] = {}
    for run, record in sorted(runs.items(), key=lambda item: (item[1]["seed"], item[0])):
        found.setdefault(run.removesuffix(f"_seed-{record['seed']}"), []).append(run)
    return dict(sorted(found.items()))


def _curves(
    runs: Mapping[str, Mapping[str, Any]], records: Sequence[Mapping[str, Any]], lying: Mapping[str, Beside]
) -> dict[str, Markup]:
    """A panel an arm: losses of the trainings that lie here, else the held-out ones that records keep."""
    kept: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        if (record["part"], record["metric"]) == LEARNING:
            kept.setdefault(record["run"], []).append((float(record["slice"]["step"]), record["value"]))
    found = {}
    for arm, members in _arms(runs).items():
        losses: list[Mapping[str, Points]] = [
            lying[run].losses or ({"held-out": sorted(kept[run])} if run in kept else {}) for run in members
        ]
        series = list(itertools.chain.from_iterable(one.items() for one in losses))
        if series:
            found[arm] = curves(series)
    return found


def _question(study: str) -> str:
    """The first line of the study's module, which is not run; "" where there is none."""
    file = provenance.PACKAGE / "studies" / f"{study}.py"
    said = ast.get_docstring(ast.parse(read_text(file))) if file.is_file() else None
    return (said or "").partition("\n")[0]
