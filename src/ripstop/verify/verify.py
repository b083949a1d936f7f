"""`python -m ripstop verify`: every check of this package in turn, then the claims."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ripstop.claims import registry
from ripstop.claims.printing import claims_tex, console_table, failure_sentence
from ripstop.claims.recorded import record, recorded_verdicts
from ripstop.claims.registration import Evidence
from ripstop.claims.verdicts import failed_controls, judged, registered, verdicts
from ripstop.config import ConfigError
from ripstop.paper.numbers import FILE, StudyNumbers, by_study, metric_values, read_studies
from ripstop.plan import Plan
from ripstop.verify.published import check_assembled, check_published
from ripstop.verify.recorded import check_metrics, check_recorded, evidence_of, from_record, settled
from ripstop.verify.rendered import check_rendered, render_again
from ripstop.verify.runs import check_choices, check_records, check_runs

WIDTH = 160
"""Columns of what is said to no terminal, so that a log holds whole names."""


def verify(
    grid: Plan,
    scales: Collection[str],
    claims_file: Path,
    recorded: Path,
    update: bool = False,
    root: Path = Path(),
    console: Console | None = None,
) -> int:
    """Recompute what is printed at the grid's scale, compare, and print every claim. Exit status: 1 where anything differs.

    claims_file: paper/claims.yaml. recorded: paper/verdicts.json, beside which the published paper lies.
    update: record the verdicts instead of comparing them.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH)
    checked = _Checked(grid, root)
    claims = registry.load(claims_file, scales)
    before = recorded_verdicts(recorded, grid.scale)
    with tempfile.TemporaryDirectory(prefix="ripstop-verify-") as scratch:
        checked.check_studies(Path(scratch))
        numbers = by_study(checked.studies.values())
        elsewhere = {} if update else from_record(claims, numbers, before, recorded)
        if not numbers and not elsewhere:
            raise ConfigError(
                f"results/{grid.scale}: holds no records, and {recorded} no verdicts of this scale; "
                "run `snakemake paper/tables` at this scale first"
            )
        estimates = {item.claim.id: item.estimate for item in verdicts(claims, numbers, grid.scale)} | elsewhere
        at_hand = {*numbers, *(study for claim in claims if claim.id in elsewhere for study in claim.studies)}
        metrics = root / "results" / "metrics" / grid.scale
        evidence = {study: evidence_of(study, metrics, before) for study in at_hand - numbers.keys()}
        evidence |= {s.study: Evidence(metric_values(s.numbers), s.commits) for s in checked.studies.values()}
        found, no_git = settled(
            registered(judged(claims, estimates, at_hand), claims_file, grid.scale, evidence), {} if update else before
        )
        commits = {study: of.commits for study, of in evidence.items()}
        checked.told += check_metrics(claims, elsewhere, metrics, recorded)
        assembled = grid.folder(root) / "paper"
        if checked.studies.keys() == set(grid.studies) and assembled.is_dir():
            checked.told += check_assembled(assembled, list(checked.studies.values()), found, grid.scale)
        table = claims_tex(found, grid.scale, at_hand)
        told, unseen = check_published(recorded.parent, grid.scale, table, checked.printed)
        checked.told += told
    console.print(console_table(found, grid.scale))
    for failed in failed_controls(found, grid.scale, at_hand):
        _say(console, failure_sentence(failed))
    notes = [*checked.notes, *filter(None, [unseen])]
    if no_git:
        notes.append(f"git cannot say which criteria came first: {no_git}")
    if update:
        stayed = record(recorded, grid.scale, found, commits)
        notes.append(f"{sum(item.at_hand for item in found)} verdicts of scale {grid.scale} recorded in {recorded}")
        if stayed:
            notes.append(f"the study was not at hand, so what is recorded stays: {', '.join(stayed)}")
    else:
        checked.told += check_recorded(recorded, found, before, commits)
        if not before:
            notes.append(f"nothing is recorded for scale {grid.scale} in {recorded}; record these verdicts with --record")
    for note in notes:
        _say(console, note)
    for sentence in checked.told:
        _say(console, sentence, "mismatch: ")
    n = len(checked.told)
    _say(console, f"{n} mismatch{'' if n == 1 else 'es'}" if n else "everything that was checked agrees")
    return 1 if n else 0


class _Checked:
    """What the checks of the studies found.

    told: mismatches. notes: what could not be checked. studies: study -> its numbers, printed again where records are here.
    printed: name below paper/ -> the file printed again.
    """

    def __init__(self, grid: Plan, root: Path):
        self._grid, self._folder = grid, grid.folder(root)
        self._metrics = root / "results" / "metrics" / grid.scale
        self.told: list[str] = []
        self.notes: list[str] = []
        self.studies: dict[str, StudyNumbers] = {}
        self.printed: dict[str, Path] = {}

    def check_studies(self, scratch: Path) -> None:
        for study in self._grid.studies:
            folder, file = self._folder / study, self._folder / study / "paper" / FILE
            try:
                if (folder / "records.jsonl").is_file():
                    self._again(study, folder, scratch / study)
                elif file.is_file():
                    (self.studies[study],) = read_studies([file], self._grid.scale)
                    self.notes.append(f"{folder}: the records are not here, so {FILE} is taken as it is")
                else:
                    self.notes.append(f"{folder}: the records are not here, so its recorded verdicts are held against metrics")
            except ConfigError as error:
                self.told.append(str(error))

    def _again(self, study: str, folder: Path, out: Path) -> None:
        jobs = self._grid.runs[study]
        if not (folder / "runs").is_dir():
            self.notes.append(f"{folder}: the runs are not here, so its records are taken as they are")
        self.told += check_runs(folder, jobs, self._folder / "data")
        self.told += check_choices(folder, self._grid.choices.get(study, {}))
        self.told += check_records(folder, jobs)
        made = render_again(folder, out, self._grid.reads.get(study, []), self._grid.dropped.get(study, []))
        self.studies[study] = made
        self.printed |= {f"tables/{name}.tex": out / "tables" / f"{name}.tex" for name in made.tables}
        self.printed |= {f"figures/{name}.pdf": out / "figures" / f"{name}.pdf" for name in made.figures}
        self.told += check_rendered(folder, out, made, self._metrics)


def _say(console: Console, sentence: str, warning: str = "") -> None:
    console.print(Text.assemble((warning, "bold red"), sentence), soft_wrap=True, highlight=False)
