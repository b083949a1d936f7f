"""How an estimate was made, told by the functions that were at work: their docstrings begin with what they do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ripstop.paper.tables import Marked
from ripstop.statistics import MADE, Estimate

PACKAGE, PRINTERS = "ripstop.", "ripstop.paper."


class Methods:
    """Of every estimate that was made inside `noted`."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Estimate, str]] = {}

    def of(self, printed: Any) -> str:
        """`difference_interval: Mean of a minus mean of b, ...`; of what is no estimate, that it is printed as it is."""
        estimate = printed.estimate if isinstance(printed, Marked) else printed
        made = self._made.get(id(estimate)) if isinstance(estimate, Estimate) else None
        return made[1] if made else "as recorded"

    def note(self, estimate: Estimate) -> None:
        """To be called by the estimate itself, while it is made."""
        frame = _at_work(sys._getframe(3))  # above this one, `__post_init__` and `__init__`
        parts = [_said(frame)]
        if _name(frame).startswith(f"{Estimate.__name__}."):  # estimates that were combined say how they were made
            operands = [frame.f_locals.get(name) for name in ("self", "other")]
            known = [self._made[id(operand)][1] for operand in operands if id(operand) in self._made]
            parts += [f"of: {text}" for text in dict.fromkeys(known)]
        self._made[id(estimate)] = estimate, "; ".join(parts)


@contextmanager
def noted() -> Iterator[Methods]:
    """Notes how each estimate is made while it is open."""
    found = Methods()
    token = MADE.set(found.note)
    try:
        yield found
    finally:
        MADE.reset(token)


def _at_work(frame: FrameType) -> FrameType:
    """The function that a printer called for it; the printer's own where it called none."""
    at_work, caller = frame, frame.f_back
    while caller is not None and _module(caller).startswith(PACKAGE) and not _module(caller).startswith(PRINTERS):
        at_work, caller = caller, caller.f_back
    while _name(at_work).endswith(">") and at_work.f_back is not None:  # a comprehension says nothing
        at_work = at_work.f_back
    return at_work


def _said(frame: FrameType) -> str:
    """Its name, and what it does."""
    text = _first_sentence(frame)
    return f"{_name(frame)}: {text}" if text else f"{_module(frame)}.{_name(frame)}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _name(frame: FrameType) -> str:
    return frame.f_code.co_qualname.replace(".<locals>", "")


def _first_sentence(frame: FrameType) -> str:
    """Of the function's docstring, which its code keeps as its first constant."""
    first = frame.f_code.co_consts[0] if frame.f_code.co_consts else None
    return " ".join(first.split("\n\n")[0].split()) if isinstance(first, str) and frame.f_code.co_name != first else ""
