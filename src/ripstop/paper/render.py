"""A study's records become its figure, table and numbers, through the study's own module `ripstop.paper.<study>`."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd

from ripstop import paper, provenance
from ripstop.config import ConfigError, nearest
from ripstop.files import write_text
from ripstop.paper.numbers import StudyNumbers, by_study, check_tex, numbers_tex, read_studies, write_numbers_json
from ripstop.paper.plots import curves, save
from ripstop.paper.style import style
from ripstop.records import Record, frame, read_records
from ripstop.statistics import Estimate

MACHINERY = {"latex", "numbers", "pdf", "plots", "render", "select", "style", "tables"}
"""Modules of this package that are not a study's."""


def load_study(study: str) -> ModuleType:
    """Module `ripstop.paper.<study>`; `ConfigError` with the nearest name where there is none."""
    names = sorted({m.name for m in pkgutil.iter_modules(paper.__path__)} - MACHINERY)
    if study not in names:
        raise ConfigError(f"study {study!r} has no module paper/{study}.py to print it{nearest(study, names)}")
    return importlib.import_module(f"{paper.__name__}.{study}")


def load_records(study: str, path: Path) -> pd.DataFrame:
    """The study's records as a table."""
    records = read_records(path)
    if not records:
        raise ConfigError(f"{path}: holds no records; train and evaluate the study's runs, then `collect` again")
    strangers = {record.study for record in records} - {study}
    if strangers:
        others = ", ".join(sorted(strangers))
        raise ConfigError(f"{path}: holds records of {others}, not only of {study}; collect again")
    scales = sorted({record.scale for record in records})
    if len(scales) > 1:
        raise ConfigError(f"{path}: mixes the scales {', '.join(scales)}; collect the runs of one scale")
    return frame(records)


def write_figure(study: str, records: Path, out: Path) -> None:
    """The study's figure as PDF, and as PNG beside it."""
    if out.suffix != ".pdf":
        raise ConfigError(f"{out}: a figure is written as .pdf (a .png comes beside it); change --out")
    module, table = load_study(study), load_records(study, records)
    with style():
        save(module.figure(table), out)


def write_table(study: str, records: Path, out: Path) -> None:
    """The study's table as LaTeX."""
    write_text(out, load_study(study).table(load_records(study, records)).latex())


def write_numbers(study: str, records: Path, out: Path) -> None:
    """The study's numbers as JSON, with what they rest on."""
    table = load_records(study, records)
    numbers = load_study(study).numbers(table)
    devices = sorted(table["device"].unique())
    write_numbers_json(out, StudyNumbers(study, table["scale"].iloc[0], table["run"].nunique(), devices, numbers))


def write_metrics(records: Iterable[Record], out: Path) -> None:
    """The study's numbers without their intervals, name -> value, as `dvc metrics show` prints them."""
    kept = _some(records, out)
    numbers: dict[str, Estimate] = load_study(kept[0].study).numbers(frame(kept))
    values = {name: float(f"{e.value:.6g}") for name, e in sorted(numbers.items()) if math.isfinite(e.value)}
    write_text(out, json.dumps(values, indent=1) + "\n")


def write_curves(records: Iterable[Record], out: Path) -> None:
    """The curves of the first panel of the study's figure as CSV (label, x, y), for `dvc plots`."""
    kept = _some(records, out)
    with style():
        figure = load_study(kept[0].study).figure(frame(kept))
    points = pd.DataFrame(curves(figure.axes[0]), columns=["label", "x", "y"])
    write_text(out, points.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def write_paper_numbers(paths: Sequence[Path], out: Path, sources: Sequence[Path] = ()) -> None:
    """numbers.tex for the paper, from the numbers.json of its studies in the order of its sections.

    sources: the paper's own .tex files; a number that they name and that does not exist is an error.
    """
    studies = read_studies(paths)
    complaints = check_tex(sources, by_study(studies))
    if complaints:
        raise ConfigError("; ".join(complaints))
    provenance_rows = [
        ("Scale", studies[0].scale if studies else "none"),
        ("Runs", ", ".join(f"{s.study} {s.runs}" for s in studies)),
        ("Devices", ", ".join(sorted({device for s in studies for device in s.devices}))),
        ("Commit", provenance.commit()),
        ("Versions", ", ".join(f"{name} {version}" for name, version in provenance.versions().items())),
    ]
    write_text(out, numbers_tex(studies, provenance_rows))


def _some(records: Iterable[Record], out: Path) -> list[Record]:
    kept = list(records)
    if not kept:
        raise ConfigError(f"{out}: there are no records to summarise; train and evaluate the study's runs first")
    return kept
