"""A study's records become its numbers, figures and tables, through the study's printer `ripstop.paper.studies.<study>`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ripstop.config import ConfigError, nearest
from ripstop.files import read_text, write_text
from ripstop.paper import studies
from ripstop.paper.methods import noted
from ripstop.paper.numbers import FILE, StudyNumbers, metric_values, read_numbers, write_numbers_json
from ripstop.paper.plots import Point, axis_name, curves, save
from ripstop.paper.select import PART, StudyRecords
from ripstop.paper.sources import FILE as SOURCES
from ripstop.paper.sources import sources
from ripstop.paper.style import style
from ripstop.paper.tables import Table, table_files
from ripstop.provenance import digest
from ripstop.records import frame, read_records
from ripstop.statistics import Estimate


def load_records(study: str, path: Path, dropped: Iterable[tuple[str, str]] = ()) -> StudyRecords:
    """The study's records as its printer asks them. Every arm that the printer names is there or was dropped."""
    printer = studies.load(study)
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
    factors = frozenset(name for record in records for name in record.factors)
    found = StudyRecords(study, frame(records), frozenset(dropped), getattr(printer, "PARTS", {}), factors=factors)
    found.require(getattr(printer, "ARMS", {}))
    return found


def render_study(
    study: str,
    records: Path,
    out: Path,
    reads: Mapping[str, Path] | None = None,
    dropped: Sequence[str] = (),
    metrics: Path | None = None,
    curve: Path | None = None,
) -> StudyNumbers:
    """Write everything that the paper shows of a study below `out`: numbers.json, figures/, tables/, sources.json with what is
    behind them, and for DVC metrics.json and curves.csv. Nothing is written where anything is wrong.

    reads: the records of the other studies that the printer reads.
    dropped: what the parameters of the scale dropped, `factor=value` of an arm or `part=name`; `study/factor=value` of a
        study in `reads`.
    metrics, curve: other places for metrics.json and curves.csv.

    What an earlier call left in `out` and this one does not make is removed; files that it did not make stay.
    """
    printer = studies.load(study)
    mine, others = _loaded(study, records, reads or {}, dropped)
    with style():
        with noted() as methods:
            numbers = _numbers(study, printer, mine, others)
            tables: dict[str, Table] = _named(printer, "tables")(mine, **others)
        figures: dict[str, Figure] = _named(printer, "figures")(mine, **others)
        digests = {name: digest(read_text(path)) for name, path in {study: records, **(reads or {})}.items()}
        source = sources(printer, mine, others, numbers, tables, methods, digests)
    texts = {f"{name}.tex": table.latex(name) for name, table in tables.items()}
    texts |= {f"{name}.csv": table.csv() for name, table in tables.items()}
    devices, commits = (sorted(mine.table[name].unique()) for name in ("device", "commit"))
    scale = str(mine.table["scale"].iloc[0])
    made = StudyNumbers(study, scale, mine.table["run"].nunique(), devices, numbers, list(figures), list(tables), commits)

    _remove_earlier(out, made)
    for name, figure in figures.items():
        save(figure, out / "figures" / f"{name}.pdf")
    for name, text in texts.items():
        write_text(out / "tables" / name, text)
    write_text(metrics or out / "metrics.json", json.dumps(metric_values(numbers), indent=1) + "\n")
    write_text(curve or out / "curves.csv", _curves(study, figures))
    write_text(out / SOURCES, source)
    write_numbers_json(out / FILE, made)
    return made


def draw_study(study: str, records: Path, reads: Mapping[str, Path], dropped: Sequence[str]) -> dict[str, Figure]:
    """The figures of a study by name, as `render_study` has them; nothing is written."""
    mine, others = _loaded(study, records, reads, dropped)
    with style():
        figures: dict[str, Figure] = _named(studies.load(study), "figures")(mine, **others)
    return figures


def _loaded(
    study: str, records: Path, reads: Mapping[str, Path], dropped: Sequence[str]
) -> tuple[StudyRecords, dict[str, StudyRecords]]:
    """The records of a study, and those of each other that it reads, all of one scale."""
    mine = load_records(study, records, _dropped(dropped, study, study))
    others = _others(study, reads, dropped)
    scale = str(mine.table["scale"].iloc[0])
    for name, other in others.items():
        if other.table["scale"].iloc[0] != scale:
            raise ConfigError(f"{study} at scale {scale} cannot read {name} at scale {other.table['scale'].iloc[0]}")
    return mine, others


def _numbers(study: str, printer: ModuleType, mine: StudyRecords, others: dict[str, StudyRecords]) -> dict[str, Estimate]:
    numbers: dict[str, Estimate] = printer.numbers(mine, **others)
    wrong = sorted(set(numbers) ^ set(printer.NUMBERS))
    if wrong:
        of = "does not list" if wrong[0] in numbers else "lists what numbers() does not give:"
        raise ConfigError(f"src/ripstop/paper/studies/{study}.py: NUMBERS {of} {wrong[0]!r}; make the two agree")
    return {name: numbers[name] for name in printer.NUMBERS}


def _named(printer: ModuleType, kind: str) -> Callable[..., dict[str, Any]]:
    return getattr(printer, kind, lambda records, **others: {})


def _others(study: str, reads: Mapping[str, Path], dropped: Sequence[str]) -> dict[str, StudyRecords]:
    wanted = studies.reads(study)
    for name in reads:
        if name not in wanted:
            raise ConfigError(f"--reads {name}: {study} does not read it{nearest(name, list(wanted)) if wanted else ''}")
    for name in wanted:
        if name not in reads:
            raise ConfigError(
                f"{study} reads the records of {name}: pass --reads {name}=results/records/<scale>/{name}.jsonl.gz"
            )
    return {name: load_records(name, reads[name], _dropped(dropped, study, name)) for name in wanted}


def _dropped(given: Sequence[str], study: str, of: str) -> list[tuple[str, str]]:
    """The (factor, value) pairs among `given` that speak of the study `of`; `study` is the one without a prefix."""
    found = []
    for item in given:
        key, equals, value = item.partition("=")
        prefix, slash, factor = key.rpartition("/")
        if not equals or not factor or not value or (slash and not prefix):
            raise ConfigError(f"--dropped {item}: write it as factor=value, such as architecture=attention, or part=comet")
        readers = (study, *studies.reads(study))
        if prefix and prefix not in readers:
            raise ConfigError(f"--dropped {item}: {study} does not read {prefix}{nearest(prefix, list(readers))}")
        if (prefix or study) == of:
            _check_named(of, factor, value, item)
            found.append((factor, value))
    return found


def _check_named(study: str, factor: str, value: str, item: str) -> None:
    """`ConfigError` where the printer of `study` names no such arm or part, so that nothing could be dropped."""
    arms, parts = studies.named(study)
    known, printer = {**arms, PART: parts}, f"src/ripstop/paper/studies/{study}.py"
    if factor not in known:
        raise ConfigError(f"--dropped {item}: {printer} names no arms by {factor!r}{nearest(factor, sorted(known))}")
    if value not in known[factor]:
        raise ConfigError(f"--dropped {item}: {printer} names no {factor} {value!r}{nearest(value, sorted(known[factor]))}")


def _curves(study: str, figures: Mapping[str, Figure]) -> str:
    """The curves of the first panel of the study's main figure as CSV, for `dvc plots`: points with intervals, and what each
    axis shows and how, in every row, since that is all that a template of DVC sees."""
    main = figures.get(study) or next(iter(figures.values()), None)
    points = curves(main.axes[0]) if main is not None else []
    table = pd.DataFrame(points, columns=[field.name for field in fields(Point)])
    if main is not None:
        panel = main.axes[0]
        table["x_axis"], table["x_scale"] = axis_name(panel, "x"), panel.get_xscale()
        table["y_axis"], table["y_scale"] = axis_name(panel, "y"), panel.get_yscale()
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _remove_earlier(out: Path, made: StudyNumbers) -> None:
    try:
        before = read_numbers(out / FILE)
    except ConfigError:
        return  # nothing is known of what lies there, so it stays
    if before.study == made.study:
        for name in set(before.figures) - set(made.figures):
            for suffix in (".pdf", ".png"):
                (out / "figures" / name).with_suffix(suffix).unlink(missing_ok=True)
        for file in table_files(set(before.tables) - set(made.tables)):
            (out / file).unlink(missing_ok=True)
