"""Estimates that are asked only what moves them: every value that enters them still does, and nothing is drawn or searched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ROUGHLY: ContextVar[bool] = ContextVar("roughly", default=False)


@contextmanager
def roughly() -> Iterator[None]:
    """Inside, an interval over seeds is the range of their values, and a fitted curve the line or the mean through its points.

    Never for anything that is printed.
    """
    token = _ROUGHLY.set(True)
    try:
        yield
    finally:
        _ROUGHLY.reset(token)


def is_rough() -> bool:
    return _ROUGHLY.get()
