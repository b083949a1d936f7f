"""What the other processes of a training have in place of the monitor, which the first one has: they tell nobody anything."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

MOVES_NO_NUMBER = "shows nothing"


class QuietMonitor:
    """Takes what a `Monitor` is told, and has its clock."""

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    @property
    def seconds(self) -> float:
        """Of this session."""
        return time.perf_counter() - self._started

    def count(self, tokens: int, flops: float) -> None:
        pass

    @contextmanager
    def apart(self) -> Iterator[None]:
        yield

    def heartbeat(
        self, step: int, loss: float, lr: float, grad_norm: float, metrics: Mapping[str, float] | None = None,
        held_out: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        pass
