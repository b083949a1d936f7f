"""A study, printed again from its records and compared with what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ripstop.paper.numbers import FILE, StudyNumbers
from ripstop.paper.render import render_study
from ripstop.paper.sources import FILE as SOURCES
from ripstop.paper.tables import table_files
from ripstop.verify.differences import file_differences, json_differences, text_differences

GIVE = "the records give"


def render_again(study: str, out: Path, records: Mapping[str, Path], dropped: Sequence[str]) -> StudyNumbers:
    """Print the study into `out`, from its records and those that it reads. records: study -> its file."""
    others = {name: file for name, file in records.items() if name != study}
    return render_study(study, records[study], out, others, dropped)


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
