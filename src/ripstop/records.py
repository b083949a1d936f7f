"""Records: one measured value a JSON line, with what it was measured on. Everything that is printed comes from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ConfigDict, Field, model_validator

from ripstop.config import NAME, ConfigError, Strict
from ripstop.files import read_text, write_text
from ripstop.metrics import refusal

if TYPE_CHECKING:
    import pandas as pd

Scalar = str | int | float | bool
_WHOLE_NAME = rf"^{NAME.pattern}$"


@dataclass(frozen=True)
class Measurement:
    """One value that an evaluation yields; the run's identity is added when it becomes a `Record`.

    unit: one of `metrics.UNITS`, which says what the value can be.
    """

    metric: str
    value: float
    unit: str
    n: int
    slice: dict[str, Scalar] = field(default_factory=dict)


class Record(Strict):
    """One value in long form. A value that its unit cannot have is refused, whoever makes or reads it.

    part: which part of the run's evaluation measured it.
    factors: what distinguishes the run from others of its study (`{"d_state": 64}`).
    slice: of which part of the test data, and under which control (`{"num_pairs": 16, "control": "wrong"}`).
    n: how many things the value is a mean or a count over.
    code, config, data: digests of what produced it.
    model: digest of the trained model, "" where the run trains none.
    commit: at which the model was trained, or the value measured where nothing is trained; "" where that is not known.
    device: name of the processor that it was measured on.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # `_can_be` says more of it

    study: str = Field(pattern=_WHOLE_NAME)
    run: str = Field(pattern=r"^[^/=,\s]+$")
    scale: str = Field(pattern=_WHOLE_NAME)
    seed: int = Field(ge=0)
    part: str = Field(pattern=_WHOLE_NAME)
    factors: dict[str, Scalar]
    slice: dict[str, Scalar]
    metric: str = Field(min_length=1)
    unit: str
    value: float
    n: int = Field(ge=1)
    code: str = Field(min_length=1)
    config: str = Field(min_length=1)
    data: str = Field(min_length=1)
    model: str
    commit: str = ""
    device: str = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        wrong = refusal(self.metric, self.unit, self.value)
        if wrong:
            raise ValueError(wrong)
        for key, value in [*self.factors.items(), *self.slice.items()]:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{self.metric} where {key} is {value!r}, which is no number")
        return self

    @classmethod
    def of(cls, measured: Measurement, where: str, **identity: Any) -> Self:
        """A measurement with its run's identity; `ConfigError` where its value cannot be."""
        keys = ("metric", "unit", "value", "n", "slice")
        return cls.parse({**identity, **{key: getattr(measured, key) for key in keys}}, where)

    def place(self) -> tuple[object, ...]:
        """What no two records of a file share: study, scale, run, part, metric and slice.

        Two parts may measure the same of one run, as where one of them changes the model; a printer then fixes the part.
        """
        return (
            self.study,
            self.scale,
            self.run,
            self.part,
            self.metric,
            tuple(sorted((k, repr(v)) for k, v in self.slice.items())),
        )


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON line a record, whole or not at all. A record that stands twice, or cannot be, is refused."""
    kept = [Record.parse(record.model_dump(), str(path)) for record in records]  # `model_construct` checks nothing
    _each_once(
        [(f"{path}: record {number}", record) for number, record in enumerate(kept, 1)], "tell them apart by their slices"
    )
    write_text(path, "".join(record.model_dump_json() + "\n" for record in kept))


def read_records(path: Path) -> list[Record]:
    """The records of a file; a line that is none, cannot be or stands twice is an error that names it."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such records; evaluate the run first")
    records = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line:
            continue
        where = f"{path}:{number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"{where}: not a JSON line; delete the file and evaluate the run again") from None
        try:
            records.append((where, Record.parse(values, where)))
        except ConfigError as error:
            raise ConfigError(f"{error}; delete the file and evaluate the run again") from None
    _each_once(records, "delete the file and evaluate the run again")
    return [record for _, record in records]


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Long table: the fields of `Record`, with every factor and slice key as a column of its own."""
    import pandas as pd  # slow to import, and only what prints needs it

    rows = []
    for record in records:
        row = record.model_dump(exclude={"factors", "slice"})
        for key, value in [*record.factors.items(), *record.slice.items()]:
            if key in row:
                raise ConfigError(f"{record.study}/{record.run}: {key!r} names two columns; rename the factor or the slice")
            row[key] = value
        rows.append(row)
    return pd.DataFrame(rows)


def collect(paths: Sequence[Path], out: Path) -> list[Record]:
    """Join the records of a study's runs into one file, in the order of their names: the same runs give the same bytes.

    Each file has to lie in the folder of its run (`runs/<run>/...`), and all that a run was measured with has to agree:
    one configuration, data and model a run, one code and settings a part.
    """
    found = []
    for path in sorted(set(paths)):
        read = read_records(path)
        if not read:
            raise ConfigError(f"{path}: holds no record; delete the file and evaluate the run again")
        found += [(path, record) for record in read]
    if not found:
        raise ConfigError(f"{out}: nothing to collect; the study has no evaluated run")
    first = found[0][1]
    known: dict[tuple[str, ...], tuple[Path, str]] = {}
    for path, record in found:
        if (record.study, record.scale) != (first.study, first.scale):
            both = f"{record.study} at scale {record.scale} and {first.study} at scale {first.scale}"
            raise ConfigError(f"{path}: records of {both} do not go into one file; collect one study at one scale")
        if record.run not in {folder.name for folder in path.parents}:
            raise ConfigError(
                f"{path}: holds records of the run {record.run}, which does not lie there; evaluate the run again"
            )
        if path.parent.parent.name == "parts" and record.part != path.parent.name:
            raise ConfigError(f"{path}: holds a record of the part {record.part}; delete the file and evaluate the run again")
        _agrees(known, path, record)
    _nothing_is_missing(found)
    records = [record for _, record in found]
    write_records(out, records)
    return records


def _nothing_is_missing(found: Iterable[tuple[Path, Record]]) -> None:
    """The seeds of one arm were measured alike, but for one that diverged: a file cut at the end of a line is found."""
    measured: dict[tuple[str, str], dict[str, set[tuple[object, ...]]]] = {}
    files: dict[tuple[str, str], Path] = {}
    diverged = set()
    for path, record in found:
        arm = json.dumps(record.factors, sort_keys=True)
        measured.setdefault((arm, record.part), {}).setdefault(record.run, set()).add(record.place()[4:])
        files[record.run, record.part] = path
        if record.metric == "diverged" and record.value:
            diverged.add(record.run)
    for (_, part), runs in measured.items():
        compared = {run: places for run, places in runs.items() if run not in diverged}
        whole = max(compared.values(), key=len, default=set())
        for run, places in compared.items():
            if places != whole:
                metric = min((whole - places) or (places - whole), key=repr)[0]
                raise ConfigError(
                    f"{files[run, part]}: holds {len(places)} records where another seed has {len(whole)}, and {metric} is "
                    "among those that differ; delete the file and evaluate the run again"
                )


def _agrees(known: dict[tuple[str, ...], tuple[Path, str]], path: Path, record: Record) -> None:
    """One run is one model, on one data set, with one seed and one set of factors; one part of it one code."""
    factors = json.dumps(record.factors, sort_keys=True)
    of_run = {"data": record.data, "model": record.model, "seed": str(record.seed), "factors": factors}
    of_part = {"code": record.code, "config": record.config, "device": record.device, "commit": record.commit}
    told: list[tuple[tuple[str, ...], str]] = [((record.run, name), value) for name, value in of_run.items()]
    told += [((record.run, record.part, name), value) for name, value in of_part.items()]
    for key, value in told:
        before_path, before = known.setdefault(key, (path, value))
        if value != before:
            what = f"{key[-1]} {value} of {' '.join(key[:-1])} is {before} in {before_path}"
            raise ConfigError(f"{path}: {what}; these are not of one evaluation: evaluate the run again")


def _each_once(records: Iterable[tuple[str, Record]], remedy: str) -> None:
    places: dict[tuple[object, ...], str] = {}
    for where, record in records:
        before = places.setdefault(record.place(), where)
        if before != where:
            value = f"{record.metric} of {record.run}, part {record.part}, where {_words(record.slice)}"
            raise ConfigError(f"{where}: {value} stands already in {before}; {remedy}")


def _words(slice_: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{key} is {value}" for key, value in slice_.items()) or "nothing varies"
