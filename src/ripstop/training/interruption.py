"""Signals that ask a training to stop: it finishes the step at hand, saves a checkpoint and ends with 128 + the signal."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

MOVES_NO_NUMBER = "says when a training stops; it resumes to the same bits"

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU)
"""Of a workflow or a cluster, a keyboard, a warning before a limit (Slurm's `--signal=USR2@120`), a terminal that closes, a
limit of CPU time. SIGUSR1 is not among them: it shows where a training is (`pulse.py`)."""

LEFT = (signal.SIGINT, signal.SIGHUP)
"""Whoever starts a program may have told it to ignore these. The others ask all the same: who starts it may ignore all sorts of
signals for itself, which a program inherits."""


class Interruption:
    """Remembers the first of `ASKING` while entered; a second one acts as it did before.

    One of `LEFT` that is ignored stays ignored, as SIGHUP is under `nohup` and SIGINT behind a shell's `&`. SIGXCPU, which the
    kernel repeats every second, does nothing more after the first.

    repeated: signals come more than once, as from torchrun, which sends on what its processes were sent, too. Then nothing acts
    after the first one, also behind this, so that a process that is about to end ends as it says.
    """

    def __init__(self, repeated: bool = False) -> None:
        self.repeated = repeated
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for number in ASKING:
                if number not in LEFT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if self.repeated and self.signal is not None else handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        if self.repeated:
            return
        for other in [n for n in self._previous if n != signal.SIGXCPU]:
            signal.signal(other, self._previous.pop(other))
