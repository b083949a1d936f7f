"""Signs of life of a training: a heartbeat file a rank, and the stacks of all its threads on SIGUSR1 or after a stall.

SIGUSR1 looks and never stops: what asks a training to stop is `interruption.ASKING`, SIGUSR2 in its place.

Stacks are written by `faulthandler`, in C: also where the main thread hangs in a collective, a disk or a lock, or will not
give up the interpreter. A thread of our own writes the heartbeats, so that a slow disk does not slow a step, and says under
each dump what it was; it never ends anything.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ripstop.files import read_text, sentence, write_text
from ripstop.training.lock import birth

MOVES_NO_NUMBER = "tells that a training lives, and where it hangs"

HEARTBEATS, STACKS = "heartbeats", "stacks"
EVERY = 2.0
"""Seconds between two looks at the training, and so between two heartbeats."""

Phase = Literal["starting", "training", "validating", "saving", "stopped", "failed"]
"""The last two are how a rank ended: asked to stop, or by an error. One that finished takes its heartbeat away."""


@dataclass(frozen=True)
class Beat:
    """A rank's heartbeat. step: of its last beat; None before the first. steps: of the whole training; 0 where nobody said.

    time: seconds since 1970 of that beat, by the clock of its host. process: when its process was born (`lock.birth`).
    why: what it ended by.
    """

    rank: int
    n_ranks: int
    step: int | None
    steps: int
    phase: Phase
    time: float
    pid: int
    host: str
    process: str
    why: str = ""


class Pulse:
    """Keeps `heartbeats/rank-<rank>.json` and `stacks/rank-<rank>.txt` of the training in `out` while entered.

    stall_seconds: without a beat for so long, the stacks are dumped, once a stall; 0 never does. Raise it above the longest
    pause that is none, such as a first step that compiles. A disk that takes no file costs the signs of life, said once on
    standard error, and not the training.
    """

    def __init__(self, out: Path, rank: int = 0, n_ranks: int = 1, stall_seconds: float = 600.0, steps: int = 0):
        self.out = Path(out)
        self.rank, self.n_ranks, self.steps = rank, n_ranks, steps
        self.stall_seconds = stall_seconds
        self.heartbeat = self.out / HEARTBEATS / f"rank-{rank}.json"
        self.stacks = self.out / STACKS / f"rank-{rank}.txt"
        self._last: tuple[int | None, Phase, float] = (None, "starting", time.time())
        self._every = min(EVERY, stall_seconds / 4) if stall_seconds else EVERY
        self._ended = threading.Event()
        self._file: int | None = None
        self._size = self._growing = 0
        self._registered = False
        self._complained = False
        self._host, self._process = socket.gethostname(), birth(os.getpid())

    def __enter__(self) -> Self:
        if self.rank == 0:
            _remove_ranks_from(self.out, self.n_ranks)
        try:
            self.stacks.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.stacks, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = self._growing = os.fstat(self._file).st_size
        except OSError as error:
            self._complain(error)
        # Python lets no other thread handle signals; where the file is refused, faulthandler takes standard error.
        if threading.current_thread() is threading.main_thread() and self._target() is not None:
            faulthandler.register(signal.SIGUSR1, self._target(), all_threads=True, chain=False)
            self._registered = True
        self._last = (None, "starting", time.time())
        self._arm()
        self._write(self._beat())
        self._thread = threading.Thread(target=self._look, name="pulse", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if self._registered:
            faulthandler.unregister(signal.SIGUSR1)  # gives the former handler its place back
        self._explain(last=True)
        if error is None:
            with suppress(OSError):
                self.heartbeat.unlink(missing_ok=True)
        else:
            asked = isinstance(error, SystemExit | KeyboardInterrupt)
            why = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            self._write(self._beat("stopped" if asked else "failed", why))
        if self._file is not None:
            with suppress(OSError):
                if os.fstat(self._file).st_size == 0:
                    self.stacks.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
        for folder in (self.heartbeat.parent, self.stacks.parent):
            with suppress(OSError):  # other ranks' files lie there
                folder.rmdir()

    def beat(self, step: int, phase: Phase = "training") -> None:
        """The training is alive, after update `step`. Costs less than a microsecond: the thread writes it."""
        self._last = (step, phase, time.time())

    def _look(self) -> None:
        """Every few seconds: write a new beat, wind the alarm again, and say what a dump was."""
        seen = self._last
        while not self._ended.wait(self._every):
            last = self._last
            if last is not seen:
                seen = last
                self._arm()
                self._write(self._beat())
            self._explain()

    def _arm(self) -> None:
        if self.stall_seconds and self._target() is not None:
            faulthandler.dump_traceback_later(self.stall_seconds, repeat=False, file=self._target(), exit=False)

    def _target(self) -> Any:
        return self._file if self._file is not None else sys.__stderr__

    def _beat(self, phase: Phase | None = None, why: str = "") -> Beat:
        step, now, at = self._last
        phase = phase or now
        return Beat(self.rank, self.n_ranks, step, self.steps, phase, at, os.getpid(), self._host, self._process, why)

    def _write(self, beat: Beat) -> None:
        try:
            write_text(self.heartbeat, json.dumps(asdict(beat)) + "\n", durable=False)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            self._say(f"{sentence(error)} (the training goes on without its heartbeat)")

    def _explain(self, last: bool = False) -> None:
        """Say under a new dump, and on standard error, when it was made and why. last: without waiting whether it grows."""
        if self._file is None:
            return
        with suppress(OSError):
            found = os.fstat(self._file)
            if found.st_size == self._size or (found.st_size != self._growing and not last):
                self._growing = found.st_size
                return
            stalled = os.pread(self._file, found.st_size - self._size, self._size).startswith(b"Timeout (")
            step, phase, at = self._last
            where = f"step {'?' if step is None else step}, {phase}"
            what = f"no beat for {self.stall_seconds:g} s since {where}" if stalled else f"SIGUSR1 at {where}"
            when = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="milliseconds")
            line = f"-- {when}  rank {self.rank} of {self.n_ranks}, process {os.getpid()} on {self._host}: {what}\n\n"
            os.write(self._file, line.encode())
            self._size = self._growing = os.fstat(self._file).st_size
            self._say(f"{what}; the stacks of all threads are in {self.stacks}, and the training goes on")

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            print(f"rank {self.rank}: {text}", file=sys.stderr, flush=True)


def read_beats(out: Path) -> list[Beat]:
    """The heartbeats that lie in the folder of a training, by rank. What is none is left out."""
    beats = []
    for path in Path(out, HEARTBEATS).glob("rank-*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            beats.append(_checked(Beat(**json.loads(read_text(path)))))
    return sorted(beats, key=lambda beat: beat.rank)


def _checked(beat: Beat) -> Beat:
    """`TypeError` where a number is none, or a text."""
    numbers = (beat.rank, beat.n_ranks, beat.steps, beat.time, beat.pid, beat.step or 0)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise TypeError("a number is none")
    if not all(isinstance(text, str) for text in (beat.phase, beat.host, beat.process, beat.why)):
        raise TypeError("a text is none")
    return beat


def _remove_ranks_from(out: Path, n_ranks: int) -> None:
    """Heartbeats of ranks that an earlier session had, and this one has not."""
    for beat in read_beats(out):
        if beat.rank >= n_ranks:
            with suppress(OSError):
                (out / HEARTBEATS / f"rank-{beat.rank}.json").unlink(missing_ok=True)
