"""A study, printed again from its records and compared with what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from ripstop.config import ConfigError
from ripstop.paper.numbers import FILE, StudyNumbers
from ripstop.paper.render import render_study
from ripstop.paper.sources import FILE as SOURCES
from ripstop.paper.tables import table_files
from ripstop.verify.differences import file_differences, json_differences, text_differences

GIVE = "the records give"


class Again(NamedTuple):
    """A study to print into `out`, from its records and those that it reads. records: study -> its file."""

    study: str
    out: Path
    records: Mapping[str, Path]
    dropped: Sequence[str]

    def print(self) -> StudyNumbers | ConfigError:
        """What is printed, or why it cannot be."""
        others = {name: file for name, file in self.records.items() if name != self.study}
        try:
            return render_study(self.study, self.records[self.study], self.out, others, self.dropped)
        except ConfigError as error:
            return error


def print_again(asked: Sequence[Again], processes: int) -> dict[str, StudyNumbers | ConfigError]:
    """Every study, by so many processes at most, the one with the longest records first."""
    if min(processes, len(asked)) < 2:
        return {again.study: again.print() for again in asked}
    ordered = sorted(asked, key=lambda again: again.records[again.study].stat().st_size, reverse=True)
    with ProcessPoolExecutor(min(processes, len(asked)), get_context("spawn")) as pool:
        return dict(zip([again.study for again in ordered], pool.map(Again.print, ordered), strict=True))


def check_rendered(folder: Path, again: Path, made: StudyNumbers, metrics: Path) -> list[str]:
    """What `render` left in folder/paper and in `metrics` against `again`, the study printed from its records again.

    metrics: results/metrics/<scale>.
    """
    paper, told = folder / "paper", []
    pairs = {metrics / f"{made.study}.json": again / "metrics.json", metrics / f"{made.study}.csv": again / "curves.csv"}
    if paper.exists():
        pairs |= {paper / name: again / name for name in (FILE, SOURCES, *table_files(made.tables))}
        for name in made.figures:
            told += file_differences(paper / f"figures/{name}.pdf", again / f"figures/{name}.pdf", GIVE)
    for file, wanted in pairs.items():
        if not file.is_file():
            told.append(f"{file}: no such file; render {made.study} again")
        elif file.suffix == ".json":
            told += json_differences(file, wanted.read_text(encoding="utf-8"), GIVE)
        else:
            told += text_differences(file, wanted.read_text(encoding="utf-8"), GIVE)
    return told
