"""Which records are behind what a printer prints: those that move it when they are moved.

A printer is ordinary code on tables, so nothing is declared: its records are moved and it is asked again. All records of one
run are moved together, then all of one kind (part, metric and slice) in every run, each up and down and by different amounts,
so that means, extremes, counts and bounds show it. Behind a number are the records of the runs that move it, of the kinds that
move it. Where runs share a number but not the kinds that enter it, that is more than enters it, never less.

A printer that is asked again answers by heart what rests on nothing that was moved (`by_heart`), and its estimates are rough
(`ripstop.rough`): nothing is resampled or searched.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ripstop import statistics
from ripstop.paper.by_heart import Rows, Values
from ripstop.paper.probe import Probe
from ripstop.paper.select import StudyRecords
from ripstop.records import Record
from ripstop.rough import roughly

Printed = Mapping[Hashable, object]
"""What a printer gives, piece by piece."""
FIELDS = set(Record.model_fields)
"""Columns that are neither a factor nor of a slice."""
FAR = 0.5
"""By how much of a metric's range a record is moved beyond all others of it, at least; twice that at most."""


@dataclass(frozen=True)
class Behind:
    """The records behind one piece: those of `runs`, of `kinds`. No kinds: it is a setting of the runs, or counts them."""

    runs: tuple[int, ...]
    kinds: tuple[int, ...]


@dataclass(frozen=True)
class Places:
    """runs: (study, run). kinds: (study, part, metric, slice as pairs). run, kind, arm: of each record, study after study."""

    runs: list[tuple[str, str]]
    kinds: list[tuple[str, str, str, tuple[tuple[str, Any], ...]]]
    run: np.ndarray
    kind: np.ndarray
    arm: np.ndarray


class Influence:
    """Asks one printer again and again.

    ask: the printer's answer to its study's records and to those of the studies that it reads.
    """

    def __init__(self, mine: StudyRecords, others: Mapping[str, StudyRecords]):
        self._probes = {mine.study: Probe.of(mine)} | {name: Probe.of(other) for name, other in others.items()}
        self._mine = mine.study
        tables = {name: probe.labels for name, probe in self._probes.items()}
        self.places = _places(tables, {name: probe.factors for name, probe in self._probes.items()})
        self._sizes = {name: len(table) for name, table in tables.items()}
        table = pd.concat([t[["metric", "value"]].assign(study=name) for name, t in tables.items()], ignore_index=True)
        self._table = table
        self.up, self.down = _moves(table)

    def ask(self, printer: Callable[..., Printed]) -> Printed:
        others = {name: probe for name, probe in self._probes.items() if name != self._mine}
        return printer(self._probes[self._mine], **others)

    def behind(self, printer: Callable[..., Printed]) -> dict[Hashable, Behind]:
        """Piece -> the records behind it."""
        with roughly():
            before, read = self._read(printer)
            arms, together = self.places.arm, self._together(read)
            by_arm = self._moving(printer, before, arms, read, across=False)
            by_kind = self._moving(printer, before, together, read, across=True)
        return {piece: self._joined(by_arm[piece], by_kind[piece], together, read) for piece in before}

    def drawn(self, printer: Callable[..., Printed]) -> dict[Hashable, Behind]:
        """The same for what takes long to draw: the records that were read for any piece, of the metrics that move it."""
        with roughly():
            before, read = self._read(printer)
            metrics = self._table.groupby(["study", "metric"], sort=False).ngroup().to_numpy()
            if len(before) > 1:
                moving = self._moving(printer, before, metrics, read, across=True, turns=1)
            else:
                moving = {piece: set(np.unique(metrics[read]).tolist()) for piece in before}
        found = {}
        for piece, moved in moving.items():
            rows = read & np.isin(metrics, list(moved))
            found[piece] = Behind(*(tuple(np.unique(of[rows]).tolist()) for of in (self.places.run, self.places.kind)))
        return found

    def _read(self, printer: Callable[..., Printed]) -> tuple[Printed, Rows]:
        """What it prints, and the records that it reads for that."""
        with _all(probe.moves.watch() for probe in self._probes.values()) as reads:
            before = self.ask(printer)
        return before, np.concatenate(reads)

    def _moving(
        self, printer: Callable[..., Printed], before: Printed, groups: np.ndarray, read: Rows, across: bool, turns: int = 2
    ) -> dict[Hashable, set[int]]:
        """Piece -> the groups of records that move it.

        across: a group lies across the runs, of which every other one is then moved the other way. turns: 2 moves each both
        ways.
        """
        found: dict[Hashable, set[int]] = {piece: set() for piece in before}
        signs = (self.places.run % 2).astype(bool) if across else np.zeros(len(groups), bool)
        for group in np.unique(groups[read]).tolist():
            rows = read & (groups == group)
            for turned in (signs, ~signs)[:turns]:
                for piece in self._moved(printer, before, rows, np.where(turned, self.down, self.up)):
                    found[piece].add(group)
        return found

    def _moved(self, printer: Callable[..., Printed], before: Printed, rows: Rows, values: Values) -> Iterable[Hashable]:
        """The pieces that are others once `rows` have these values."""
        try:
            with _all(self._each(rows, values)):
                after = self.ask(printer)
        except (ArithmeticError, ValueError, LookupError, AssertionError, TypeError):
            # What a printer refuses says nothing of any one piece, so that it counts for all; metric by metric, for few.
            metrics = self._table["metric"].to_numpy()
            names = np.unique(metrics[rows])
            if len(names) == 1:
                return list(before)
            return {piece for name in names for piece in self._moved(printer, before, rows & (metrics == name), values)}
        return [piece for piece, value in before.items() if not _same(value, after.get(piece))]

    def _each(self, rows: Rows, values: Values) -> Iterator[Any]:
        start = 0
        for name, size in self._sizes.items():
            part = slice(start, start + size)
            yield self._probes[name].moves.moved(rows[part], values[part])
            start += size

    def _together(self, read: Rows) -> np.ndarray:
        """Kinds that are measured in the same runs, and were always read together, count as one."""
        signatures: list[set[tuple[int, int]]] = [set() for _ in self.places.kinds]
        runs: list[set[int]] = [set() for _ in self.places.kinds]
        for number, (kind, signature) in enumerate(zip(self.places.kind, self._signatures(), strict=True)):
            runs[kind].add(self.places.run[number])
            if read[number]:
                signatures[kind].add(signature)
        found = zip(self.places.kinds, map(frozenset, signatures), map(frozenset, runs), strict=True)
        keys = [(kind[:3], read_with, measured_in) for kind, read_with, measured_in in found]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([numbers[keys[kind]] for kind in self.places.kind])

    def _signatures(self) -> list[tuple[int, int]]:
        return [(place, one) for place, p in enumerate(self._probes.values()) for one in p.moves.together().tolist()]

    def _joined(self, arms: set[int], kinds: set[int], together: np.ndarray, read: Rows) -> Behind:
        if not kinds and not arms:
            return Behind(tuple(range(len(self.places.runs))), ())
        rows = read & (np.isin(self.places.arm, list(arms)) if arms else True)
        rows &= np.isin(together, list(kinds)) if kinds else True
        return Behind(*(tuple(np.unique(of[rows]).tolist()) for of in (self.places.run, self.places.kind)))


def _places(tables: Mapping[str, pd.DataFrame], factors: Mapping[str, frozenset[str]]) -> Places:
    runs: dict[tuple[str, str], int] = {}
    kinds: dict[tuple[str, str, str, tuple[tuple[str, Any], ...]], int] = {}
    arms: dict[tuple[Any, ...], int] = {}
    run, kind, arm = [], [], []
    for study, table in tables.items():
        columns = [name for name in table if name not in FIELDS and name not in factors[study]]
        for row in table[["run", "part", "metric", *columns]].itertuples(index=False, name=None):
            slices = tuple((str(c), _whole(v)) for c, v in zip(columns, row[3:], strict=True) if not (v is None or v != v))
            run.append(runs.setdefault((study, row[0]), len(runs)))
            kind.append(kinds.setdefault((study, str(row[1]), str(row[2]), slices), len(kinds)))
        for row in table[sorted(factors[study])].itertuples(index=False, name=None):
            arm.append(arms.setdefault((study, *map(str, row)), len(arms)))
    return Places(list(runs), list(kinds), np.array(run), np.array(kind), np.array(arm))


def _whole(value: Any) -> Any:
    """A whole number as one: a column with gaps has none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _moves(table: pd.DataFrame) -> tuple[Values, Values]:
    """Each record's value moved up beyond all of its metric, and down below all of them, no two by the same amount.

    What cannot be negative stays so: a metric without negative values is moved down towards 0.
    """
    values = table["value"].to_numpy(float)
    chance = np.random.default_rng(statistics.SEED).random(len(values))
    up, down = values.copy(), values.copy()
    for rows in table.groupby(["study", "metric"]).indices.values():
        finite = values[rows][np.isfinite(values[rows])]
        least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        span, by = (most - least) or abs(most) or 1.0, FAR * (1 + chance[rows])
        up[rows] = most + by * span
        down[rows] = least - by * span if least < 0 else np.minimum(least or np.inf, values[rows]) * (1 - FAR) * chance[rows]
    return up, down


@contextmanager
def _all(contexts: Iterable[Any]) -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(context) for context in contexts]


def _same(a: object, b: object) -> bool:
    return a is b or repr(a) == repr(b)
