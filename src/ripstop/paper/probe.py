"""A study's records that can be moved: asked again and again, they answer anew only what rests on a record that was moved."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from functools import wraps
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ripstop.paper.select import StudyRecords

PAPER = "ripstop.paper."
Rows = NDArray[np.bool_]
"""Which rows of a study's whole table."""
Values = NDArray[np.float64]


class Moves:
    """What was moved of one study's records, and what was asked of them so far.

    read: the rows that anything asked since `watch` rests on.
    """

    def __init__(self, n: int):
        self._n = n
        self._values: Values | None = None
        self._moved: Rows = np.zeros(n, bool)
        self._answers: dict[Hashable, tuple[Any, Rows]] = {}
        self._reading: list[Rows] = []
        self._still = False

    @contextmanager
    def moved(self, rows: Rows, values: Values) -> Iterator[None]:
        """Inside, the records of `rows` have their places of `values`, which holds one for each row of the whole table."""
        self._moved, self._values = rows, values
        try:
            yield
        finally:
            self._moved, self._values = np.zeros(self._n, bool), None

    @contextmanager
    def watch(self) -> Iterator[Rows]:
        """The rows that are read inside."""
        read = np.zeros(self._n, bool)
        self._reading.append(read)
        try:
            yield read
        finally:
            self._reading.pop()
            if self._reading:
                self._reading[-1] |= read

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, tables are shown as they were recorded, and looking at them counts for no reading of values."""
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before

    def shown(self, table: pd.DataFrame) -> pd.DataFrame:
        """Some rows of the whole table as they stand now."""
        if self._still:
            return table
        places = table.index.to_numpy()
        if self._reading:
            self._reading[-1][places] = True
        if self._values is None or not self._moved[places].any():
            return table
        return table.assign(value=np.where(self._moved[places], self._values[places], table["value"]))

    def answer(self, key: Hashable, ask: Callable[[], Any]) -> Any:
        """What `ask` gives, by heart where nothing that it rests on was moved."""
        known = self._answers.get(key)
        if known is not None and not (self._values is not None and (known[1] & self._moved).any()):
            if self._reading:
                self._reading[-1] |= known[1]
            return _copy(known[0])
        with self.watch() as read:
            found = ask()
        if not (read & self._moved).any() and not isinstance(found, Iterator):
            self._answers[key] = found, read
        return _copy(found)

    def together(self) -> NDArray[np.int64]:
        """Which records were always read together so far: the same number for those that were."""
        reads = np.stack([read for _, read in self._answers.values()] or [np.zeros(self._n, bool)])
        return np.unique(reads, axis=1, return_inverse=True)[1].reshape(-1)


def _copy(found: Any) -> Any:
    """Of what can be added to, so that it is not there the next time."""
    if isinstance(found, pd.DataFrame | pd.Series):
        return found.copy(deep=False)
    return type(found)(found) if type(found) in (list, dict, set) else found


def _by_heart(name: str, still: bool = False) -> Callable[..., Any]:
    """The method of that name, which remembers. still: it looks at no measured value."""
    method = getattr(StudyRecords, name)

    @wraps(method)
    def ask(self: Probe, *values: Any, **where: Any) -> Any:
        def asked() -> Any:
            with self.moves.still() if still else nullcontext():
                return method(self, *values, **where)

        key = (id(self), name, values, tuple(where.items()))
        return self.moves.answer(key, asked) if _is_hashable(key) else asked()

    return ask


def _is_hashable(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _fields(records: StudyRecords) -> dict[str, Any]:
    return {field.name: getattr(records, field.name) for field in fields(StudyRecords)}


class Probe(StudyRecords):
    """`StudyRecords` whose values can be moved, which a printer cannot tell from them.

    One demand is waived: values that should all be the same need not be, since one of them may have been moved.
    """

    @classmethod
    def of(cls, records: StudyRecords, moves: Moves | None = None) -> Probe:
        """moves: of the records of which these are some."""
        made = cls(**_fields(records))
        made.__dict__["moves"] = moves or Moves(len(records.table))
        return made

    @property
    def moves(self) -> Moves:
        found: Moves = self.__dict__["moves"]
        return found

    @property
    def table(self) -> pd.DataFrame:
        return self.moves.shown(self._recorded)

    @table.setter
    def table(self, table: pd.DataFrame) -> None:
        self.__dict__["_recorded"] = table

    @property
    def _recorded(self) -> pd.DataFrame:
        found: pd.DataFrame = self.__dict__["_recorded"]
        return found

    def only(self, **where: object) -> Probe:
        def narrowed() -> Probe:
            with self.moves.still():
                chosen = StudyRecords(**_fields(self)).only(**where)
            return Probe.of(chosen, self.moves)

        found: Probe = self.moves.answer((id(self), "only", tuple(where.items())), narrowed)
        return found

    values = _by_heart("values", still=True)
    family = _by_heart("family", still=True)
    factor = _by_heart("factor", still=True)
    unit = _by_heart("unit", still=True)
    constant = _by_heart("constant")
    by_seed = _by_heart("by_seed")
    mean_by_seed = _by_heart("mean_by_seed")
    mean = _by_heart("mean")
    capacities = _by_heart("capacities")
    capacity = _by_heart("capacity")
    pick = _by_heart("pick")

    def pick_any(self, metric: str, **where: object) -> pd.DataFrame:
        with self.moves.still():
            found = super().pick_any(metric, **where)
        return self.moves.shown(found)

    @property
    def n_seeds(self) -> int:
        with self.moves.still():
            return super().n_seeds

    @property
    def _whole(self) -> pd.DataFrame:
        return self._recorded if self.whole is None else self.whole

    def _rows(self, where: Mapping[str, object], places: Rows | None = None) -> pd.DataFrame:
        with self.moves.still():
            found = super()._rows(where, places)
        return self.moves.shown(found)

    def _places(self, column: str, value: object) -> Rows:
        with self.moves.still():
            return super()._places(column, value)

    def _one(self, name: str, values: list, where: Mapping[str, object]) -> float | None:
        if len(values) > 1 and all(isinstance(value, float | int) for value in values):
            return float(np.mean(values))
        return super()._one(name, values, where)


@contextmanager
def functions_by_heart() -> Iterator[None]:
    """Inside, functions of the paper that take records remember as records do, so that little of a printer runs again."""
    wrapped: dict[FunctionType, Callable[..., Any]] = {}
    before = []
    for place, name, function in _functions():
        before.append((place, name, function))
        setattr(place, name, wrapped.setdefault(function, _remembering(function)))
    try:
        yield
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def _functions() -> list[tuple[Any, str, FunctionType]]:
    """Where they stand: module or class, name, and the function. Records come first, or are a field of the class."""
    modules = [module for name, module in sys.modules.items() if name.startswith(PAPER) and name != __name__]
    named = [(module, name, found) for module in modules for name, found in vars(module).items()]
    classes = {found for _, _, found in named if isinstance(found, type) and is_dataclass(found)}
    holding = {c for c in classes if StudyRecords.__name__ in (field.type for field in fields(c))}
    methods = [(c, name, found) for c in holding for name, found in vars(c).items() if not name.startswith("__")]
    functions = [item for item in named if isinstance(item[2], FunctionType) and _takes_records(item[2])]
    return functions + [item for item in methods if isinstance(item[2], FunctionType)]


def _takes_records(function: FunctionType) -> bool:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return bool(names) and function.__annotations__.get(names[0]) == StudyRecords.__name__


def _remembering(function: FunctionType) -> Callable[..., Any]:
    @wraps(function)
    def ask(*values: Any, **named: Any) -> Any:
        probes: list[Probe] = []
        try:
            key = (function, _token(values, probes), _token(named, probes))
        except TypeError:
            return function(*values, **named)
        if len({id(probe.moves) for probe in probes}) != 1:
            return function(*values, **named)
        return probes[0].moves.answer(key, lambda: function(*values, **named))

    return ask


def _token(value: Any, probes: list[Probe]) -> Hashable:
    """What tells an argument from others: names, numbers, records, and collections of them. `TypeError` for any other."""
    if isinstance(value, Probe):
        probes.append(value)
        return id(value)
    if value is None or isinstance(value, str | int | float):
        return type(value), value
    if type(value) in (tuple, list):
        return type(value), tuple(_token(one, probes) for one in value)
    if isinstance(value, Mapping):
        return tuple((key, _token(one, probes)) for key, one in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple(_token(getattr(value, field.name), probes) for field in fields(value))
    raise TypeError
