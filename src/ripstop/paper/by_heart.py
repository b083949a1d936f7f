"""What is asked of a study's records again and again, while some of them are moved, and answered by heart where it can be."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Rows = NDArray[np.bool_]
"""Which rows of a study's whole table."""
Values = NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")


class Moves:
    """What was moved of one study's records, and what was asked of them so far.

    An answer is known with the rows that were read for it. One that rests on moved rows holds until they are put back.
    """

    def __init__(self, n: int):
        self._n = n
        self._values: Values | None = None
        self._moved: Rows = np.zeros(n, bool)
        self._answers: dict[Hashable, tuple[Any, Rows]] = {}
        self._moved_answers: dict[Hashable, tuple[Any, Rows]] = {}
        self._reading: list[Rows] = []

    @contextmanager
    def moved(self, rows: Rows, values: Values) -> Iterator[None]:
        """Inside, the records of `rows` have their places of `values`, which holds one for each row of the whole table."""
        self._moved, self._values = rows, values
        try:
            yield
        finally:
            self._moved, self._values = np.zeros(self._n, bool), None
            self._moved_answers.clear()

    @contextmanager
    def watch(self) -> Iterator[Rows]:
        """The rows that are read inside."""
        read = np.zeros(self._n, bool)
        self._reading.append(read)
        try:
            yield read
        finally:
            self._reading.pop()
            self._read(read)

    def shown(self, table: pd.DataFrame) -> pd.DataFrame:
        """Some rows of the whole table as they stand now."""
        places = table.index.to_numpy()
        self._read(places)
        if self._values is None or not self._moved[places].any():
            return table
        return table.assign(value=np.where(self._moved[places], self._values[places], table["value"]))

    def answer(self, key: Hashable, ask: Callable[[], Any]) -> Any:
        """What `ask` gives, by heart where that rests on nothing that was moved since it was asked."""
        known = self._answers.get(key)
        if known is None or self._rests_on_moved(known[1]):
            known = self._moved_answers.get(key)
        if known is not None:
            self._read(known[1])
            return _copy(known[0])
        with self.watch() as read:
            found = ask()
        if not isinstance(found, Iterator):
            (self._moved_answers if self._rests_on_moved(read) else self._answers)[key] = found, read
        return _copy(found)

    def together(self) -> NDArray[np.int64]:
        """Which records were always read together so far: the same number for those that were."""
        reads = np.stack([read for _, read in self._answers.values()] or [np.zeros(self._n, bool)])
        return np.unique(reads, axis=1, return_inverse=True)[1].reshape(-1)

    def _rests_on_moved(self, read: Rows) -> bool:
        return bool((read & self._moved).any())

    def _read(self, rows: NDArray[Any]) -> None:
        """rows: which, or their places."""
        if self._reading:
            self._reading[-1][rows] = True


def by_heart(function: Callable[P, T]) -> Callable[P, T]:
    """A function of records that can be moved remembers, for the same arguments, what it said; of any other it is the same."""

    @wraps(function)
    def ask(*values: P.args, **named: P.kwargs) -> T:
        moves: set[Moves] = set()
        try:
            key = function, _token(values, moves), _token(named, moves)
        except TypeError:
            return function(*values, **named)
        if len(moves) != 1:
            return function(*values, **named)
        found: T = moves.pop().answer(key, lambda: function(*values, **named))
        return found

    return ask


def _token(value: Any, moves: set[Moves]) -> Hashable:
    """What tells an argument from others: names, numbers, records, and collections of them. `TypeError` for any other."""
    if value is None or isinstance(value, str | int | float | np.generic):
        return type(value), value
    if isinstance(of_records := getattr(value, "moves", None), Moves):
        moves.add(of_records)
        return _Itself(value)
    if type(value) in (tuple, list):
        return type(value), tuple(_token(one, moves) for one in value)
    if isinstance(value, Mapping):
        return tuple((key, _token(one, moves)) for key, one in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple(_token(getattr(value, field.name), moves) for field in fields(value))
    raise TypeError


class _Itself:
    """Stands for one object, which lives as long, so that none that comes after it is taken for it."""

    def __init__(self, value: object):
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _copy(found: Any) -> Any:
    """Of what can be added to, so that it is not there the next time."""
    if isinstance(found, pd.DataFrame | pd.Series):
        return found.copy(deep=False)
    return type(found)(found) if type(found) in (list, dict, set) else found
