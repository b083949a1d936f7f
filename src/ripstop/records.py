"""Records: one measured value a JSON line, with what it was measured on. Everything that is printed comes from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ripstop.config import ConfigError, Strict
from ripstop.files import write_text

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Measurement:
    """One value that an evaluation yields; the run's identity is added when it becomes a `Record`."""

    metric: str
    value: float
    unit: str
    n: int
    slice: dict[str, Scalar] = field(default_factory=dict)


class Record(Strict):
    """One value in long form.

    factors: what distinguishes the run from others of its study (`{"d_state": 64}`).
    slice: which part of the run's evaluation (`{"num_pairs": 16, "control": "wrong"}`).
    n: how many things the value is a mean or a count over.
    code, config, data: digests of what produced it.
    """

    study: str
    run: str
    scale: str
    seed: int
    factors: dict[str, Scalar]
    slice: dict[str, Scalar]
    metric: str
    unit: str
    value: float
    n: int
    code: str
    config: str
    data: str
    device: str


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON line a record, whole or not at all."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """The records of a file; a line that is none is an error that names it."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such records; evaluate the run first")
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            raise ConfigError(f"{path}:{number}: not a JSON line; delete the file and evaluate the run again") from None
        records.append(Record.parse(values, f"{path}:{number}"))
    return records


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Long table: the fields of `Record`, with every factor and slice key as a column of its own."""
    rows = []
    for record in records:
        row = record.model_dump(exclude={"factors", "slice"})
        for key, value in [*record.factors.items(), *record.slice.items()]:
            if key in row:
                raise ConfigError(f"{record.study}/{record.run}: {key!r} names two columns; rename the factor or the slice")
            row[key] = value
        rows.append(row)
    return pd.DataFrame(rows)


def collect(paths: Iterable[Path], out: Path) -> list[Record]:
    """Join the runs' records into one file, in the order of their names, so that the same runs give the same bytes."""
    records = [record for path in sorted(paths) for record in read_records(path)]
    if not records:
        raise ConfigError(f"{out}: nothing to collect; the study has no evaluated run")
    write_records(out, records)
    return records
