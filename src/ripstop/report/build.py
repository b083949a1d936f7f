"""report.html of a scale: gathered, laid in the template, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ripstop import provenance
from ripstop.claims.counts import CLAIM_COUNTS
from ripstop.config import ConfigError
from ripstop.files import write_text
from ripstop.paper import studies as printers
from ripstop.plan import Plan
from ripstop.report import page
from ripstop.report.chains import Chains
from ripstop.report.study import StudyPage, study_page
from ripstop.why.answer import why
from ripstop.why.paper import Paper

MOVES_NO_NUMBER = "it shows what was printed"
FILE = "report.html"


def build(grid: Plan, out: Path | None = None, root: Path = Path()) -> tuple[Path, list[str]]:
    """Write the report of the grid's scale to `out`, build/report-<scale> unless told; its path, and a sentence for each study
    that has no results, or figures that cannot be drawn.

    `ConfigError` where nothing is printed at this scale, records are damaged, or `out` holds something else.
    """
    out = root / "build" / f"report-{grid.scale}" if out is None else out
    _is_free(out)
    paper = Paper(grid.scale, root)
    missing = {study: _missing(study, grid.scale) for study in grid.studies if study not in paper.studies}
    chains = Chains(paper, grid)
    claims = page.claim_rows(paper)
    studies = [_study(paper, study, claims, grid, root) for study in grid.studies if study in paper.studies]
    counts = {name: why(paper, f"claims.{name}").printed for name in CLAIM_COUNTS} if paper.claims else {}
    values = {
        "scale": grid.scale,
        "commit": provenance.commit(),
        "studies": studies,
        "missing": missing,
        "counts": counts,
        "claims": claims,
        "failed_controls": paper.failed_controls,
        "numbers": page.number_rows(paper, [study.name for study in studies]),
        "accepted": grid.accepted,
        "data": chains.json(),
    }
    write_text(out / FILE, page.html(values))
    return out / FILE, [*missing.values(), *(study.undrawn for study in studies if study.undrawn)]


def _study(paper: Paper, study: str, claims: Sequence[Mapping[str, Any]], grid: Plan, root: Path) -> StudyPage:
    reads = {name: paper.records_file(name) for name in printers.reads(study)}
    mine = [row for row in claims if any(word.startswith(f"{study}.") for word in row["measure"].split())]
    return study_page(paper, study, mine, reads, grid.dropped.get(study, []), root)


def _missing(study: str, scale: str) -> str:
    return f"{study}: nothing is printed of it at scale {scale}; `snakemake study_{study} --config scale={scale}` makes it"


def _is_free(out: Path) -> None:
    """`ConfigError` where the folder holds what is no report; a name with a dot is a system's, or a killed writer's."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file, and the report takes a folder; name another with --out")
    others = sorted(path.name for path in out.iterdir() if path.name != FILE and path.name[0] != ".") if out.is_dir() else []
    if others:
        raise ConfigError(f"{out}: holds {others[0]}, which is no report; name an empty folder, or a new one, with --out")
