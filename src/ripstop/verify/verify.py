"""`python -m ripstop verify`: every check of this package in turn, then the claims."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ripstop.claims import registry
from ripstop.claims.printing import claims_tex, console_table, failure_sentence
from ripstop.claims.recorded import Recorded, record, recorded_verdicts, settled
from ripstop.claims.registration import Evidence
from ripstop.claims.registry import Claim
from ripstop.claims.verdicts import Judged, failed_controls, judged, registered, verdicts
from ripstop.config import ConfigError
from ripstop.paper.numbers import FILE, StudyNumbers, by_study, metric_values, read_studies
from ripstop.paper.sources import FILE as SOURCES_FILE
from ripstop.paper.sources import FOLDER as SOURCES
from ripstop.paper.tables import table_files
from ripstop.paper.typed import typed_results
from ripstop.plan import Plan
from ripstop.verify.published import check_assembled, check_published
from ripstop.verify.recorded import check_metrics, check_recorded, evidence_of, from_record, read_metrics
from ripstop.verify.rendered import Again, check_rendered, print_again
from ripstop.verify.runs import check_choices, check_records, check_runs
from ripstop.why.paper import Paper

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
    processes: int = 1,
) -> int:
    """Recompute what is printed at the grid's scale, compare, and print every claim. Exit status: 1 where anything differs.

    claims_file: paper/claims.yaml. recorded: paper/verdicts.json, beside which the published paper lies.
    update: record the verdicts instead of comparing them. processes: so many studies are printed at a time.
    """
    console = console or Console(width=None if sys.stdout is not None and sys.stdout.isatty() else WIDTH)
    claims = registry.load(claims_file, scales)
    before = recorded_verdicts(recorded, grid.scale)
    with tempfile.TemporaryDirectory(prefix="ripstop-verify-") as scratch:
        checked = _Checked(grid, root)
        checked.check_studies(Path(scratch), processes)
        found = checked.judge(claims, claims_file, recorded, {} if update else before)
        checked.check_paper(found, recorded.parent)
    if update:
        stayed = record(recorded, grid.scale, found, checked.commits)
        checked.notes.append(f"{sum(item.at_hand for item in found)} verdicts of scale {grid.scale} recorded in {recorded}")
        if stayed:
            checked.notes.append(f"the study was not at hand, so what is recorded stays: {', '.join(stayed)}")
    else:
        checked.told += check_recorded(recorded, found, before, checked.commits)
        if not before:
            checked.notes.append(
                f"nothing is recorded for scale {grid.scale} in {recorded}; record these verdicts with --record"
            )
    console.print(console_table(found, grid.scale))
    for sentence in [*map(failure_sentence, failed_controls(found, grid.scale, checked.commits)), *checked.notes]:
        _say(console, sentence)
    for sentence in checked.told:
        _say(console, sentence, "mismatch: ")
    n = len(checked.told)
    _say(console, f"{n} mismatch{'' if n == 1 else 'es'}" if n else "everything that was checked agrees")
    return 1 if n else 0


class _Checked:
    """What the checks found.

    told: mismatches. notes: what could not be checked. studies: study -> its numbers, printed again where records are here.
    printed: name below paper/ -> the file printed again. commits: study at hand -> where its runs were made.
    """

    def __init__(self, grid: Plan, root: Path):
        self._grid, self._root, self._folder = grid, root, grid.folder(root)
        self._metrics = root / "results" / "metrics" / grid.scale
        self._records = root / "results" / "records" / grid.scale
        self.told: list[str] = []
        self.notes: list[str] = []
        self.studies: dict[str, StudyNumbers] = {}
        self.printed: dict[str, Path] = {}
        self._sources: dict[str, Path] = {}
        self.commits: dict[str, Sequence[str]] = {}

    def judge(self, claims: Sequence[Claim], file: Path, recorded: Path, before: Recorded) -> list[Judged]:
        """Every claim, by the studies' numbers, or by its recorded number where they are not here."""
        scale, numbers = self._grid.scale, by_study(self.studies.values())
        elsewhere = from_record(claims, numbers, before, recorded)
        if not numbers and not elsewhere:
            raise ConfigError(
                f"{self._folder}: holds no records, and {recorded} no verdicts of this scale; "
                "run `snakemake paper/tables` at this scale first"
            )
        self.told += check_metrics(claims, elsewhere, self._metrics, recorded)
        estimates = {item.claim.id: item.estimate for item in verdicts(claims, numbers, scale)} | elsewhere
        evidence = {s.study: Evidence(metric_values(s.numbers), s.commits) for s in self.studies.values()}
        for study in [study for claim in claims if claim.id in elsewhere for study in claim.studies]:
            evidence.setdefault(study, evidence_of(study, self._metrics, before))
        self.commits = {study: of.commits for study, of in evidence.items()}
        asked = registered(judged(claims, estimates, evidence), file, scale, evidence)
        found, why = settled(asked, before)
        if why:
            self.notes.append(f"git cannot say which criteria came first: {why}")
        return found

    def check_paper(self, found: Sequence[Judged], published: Path) -> None:
        """The assembled paper, where all of its studies are here, and the published one."""
        scale, assembled = self._grid.scale, self._folder / "paper"
        if self.studies.keys() == set(self._grid.studies) and assembled.is_dir():
            sources = Paper(scale, self._root, [self._sources[study] for study in self._grid.studies])
            self.told += check_assembled(assembled, list(self.studies.values()), found, sources, published)
        known = {study: read_metrics(self._metrics / f"{study}.json") for study in self._grid.studies}
        for text in sorted([*published.glob("*.tex"), *published.glob("sections/*.tex"), *published.parent.glob("README.md")]):
            self.told += typed_results(text, known)
        told, unseen = check_published(published, scale, claims_tex(found, scale, self.commits), self.printed)
        self.told += told
        self.notes += [unseen] if unseen else []

    def check_studies(self, scratch: Path, processes: int) -> None:
        asked, missing = {}, {}
        for study in self._grid.studies:
            read = [study, *self._grid.reads.get(study, [])]
            records = {name: self._records / f"{name}.jsonl.gz" for name in read}
            missing[study] = [path for path in records.values() if not path.is_file()]
            if not missing[study]:
                asked[study] = Again(study, scratch / study, records, self._grid.dropped.get(study, []))
        printed = print_again(list(asked.values()), processes)
        for study in self._grid.studies:
            file = self._folder / study / "paper" / FILE
            try:
                if study in asked:
                    self._check(asked[study], printed[study])
                elif file.is_file():
                    (self.studies[study],) = read_studies([file], self._grid.scale)
                    self._sources[study] = file.with_name(SOURCES_FILE)
                    self.notes.append(f"{missing[study][0]}: not here, so {file} is taken as it is")
                else:
                    self.notes.append(
                        f"{missing[study][0]}: not here, so the recorded verdicts of {study} are held against metrics"
                    )
            except ConfigError as error:
                self.told.append(str(error))

    def _check(self, again: Again, made: StudyNumbers | ConfigError) -> None:
        study, out = again.study, again.out
        jobs, folder = self._grid.runs[study], self._folder / study
        if not (folder / "runs").is_dir():
            self.notes.append(f"{folder}: the runs are not here, so its records are taken as git has them")
        self.told += check_runs(folder, jobs, self._folder / "data")
        self.told += check_choices(folder, self._grid.choices.get(study, {}))
        self.told += check_records(again.records[study], folder, jobs)
        if isinstance(made, ConfigError):
            raise made
        self.studies[study] = made
        self.printed |= {name: out / name for name in table_files(made.tables)}
        self.printed |= {f"figures/{name}.pdf": out / "figures" / f"{name}.pdf" for name in made.figures}
        self.printed[f"{SOURCES}/{study}.json"] = self._sources[study] = out / SOURCES_FILE
        self.told += check_rendered(folder, out, made, self._metrics)


def _say(console: Console, sentence: str, warning: str = "") -> None:
    console.print(Text.assemble((warning, "bold red"), sentence), soft_wrap=True, highlight=False)
