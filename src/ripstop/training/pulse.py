"""Signs of life of a training: a heartbeat file a rank, and the stacks of all its threads on SIGUSR1 or after a stall.

SIGUSR1 looks and never stops: what asks a training to stop is `interruption.ASKING`, SIGUSR2 in its place.

A thread of our own writes both, so that a slow disk slows no step. It is woken by the signal itself (`signal.set_wakeup_fd`),
and so also where the main thread hangs in a collective, a disk or a lock. It holds the interpreter while stacks are written:
what `faulthandler` does by itself, from a signal or an alarm, reads frames that other threads are changing, and was seen to end
the process. Its alarm is set for one case alone, in which nothing changes them: a thread will not give up the interpreter, and
ours cannot run either.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
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
SLACK = 5.0
"""Seconds beyond a stall after which our thread is taken to be kept from running."""
_END = b"\0"  # no signal has this number

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
        self._file: int | None = None
        self._size = 0
        self._former: tuple[Any, int] | None = None
        self._complained = False
        self._host, self._process = socket.gethostname(), birth(os.getpid())

    def __enter__(self) -> Self:
        if self.rank == 0:
            _remove_ranks_from(self.out, self.n_ranks)
        try:
            self.stacks.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.stacks, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            self._complain(error)
        self._waking, self._woken = os.pipe()
        os.set_blocking(self._woken, False)
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            handler = signal.signal(signal.SIGUSR1, lambda number, frame: None)
            self._former = handler, signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._last = (None, "starting", time.time())
        self._write(self._beat())
        self._thread = threading.Thread(target=self._look, name="pulse", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._former is not None:
            signal.set_wakeup_fd(self._former[1])
            signal.signal(signal.SIGUSR1, self._former[0])
        os.set_blocking(self._woken, True)
        os.write(self._woken, _END)
        self._thread.join()
        os.close(self._waking)
        os.close(self._woken)
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
        """Every few seconds: write a new beat, or find that there is none for too long. At once: answer SIGUSR1."""
        seen, since, stalled, woken = self._last, time.monotonic(), False, b""
        while _END not in woken:
            self._set_alarm()
            ready, _, _ = select.select([self._waking], [], [], self._every)
            woken = os.read(self._waking, 4096) if ready else b""
            self._tell_alarm()
            if signal.SIGUSR1 in woken:
                self._dump(f"SIGUSR1 at {self._where}")
            last, now = self._last, time.monotonic()
            if last is not seen and not ready:
                seen, since, stalled = last, now, False
                self._write(self._beat())
            elif last is seen and self.stall_seconds and now - since >= self.stall_seconds and not stalled:
                stalled = True
                self._dump(f"no beat for {self.stall_seconds:g} s since {self._where}")
        faulthandler.cancel_dump_traceback_later()

    @property
    def _where(self) -> str:
        step, phase, _ = self._last
        return f"step {'?' if step is None else step}, {phase}"

    def _dump(self, what: str) -> None:
        """Write the stacks of all threads, headed by when and why, and say where they are."""
        if self._file is None:
            self._say(what)
            with suppress(Exception):  # standard error may be closed, or no file
                faulthandler.dump_traceback(sys.__stderr__ or sys.stderr, all_threads=True)
            return
        try:
            os.write(self._file, f"== {_now()}  rank {self.rank} of {self.n_ranks}, {self._who}: {what}\n".encode())
            faulthandler.dump_traceback(self._file, all_threads=True)
            os.write(self._file, b"\n")
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            self._complain(error)
        self._say(f"{what}; the stacks of all threads are in {self.stacks}, and the training goes on")

    def _set_alarm(self) -> None:
        if self.stall_seconds and self._file is not None:
            faulthandler.dump_traceback_later(self.stall_seconds + SLACK, repeat=False, file=self._file, exit=False)

    def _tell_alarm(self) -> None:
        """Where the alarm went off, say what it was: it heads its stacks with `Timeout` alone."""
        with suppress(OSError):
            if self._file is not None and os.fstat(self._file).st_size > self._size:
                seconds = self.stall_seconds + SLACK
                what = f"the interpreter was not given up for {seconds:g} s, or the process was suspended, after {self._where}"
                os.write(self._file, f"-- {_now()}  {self._who}: {what}\n\n".encode())
                self._size = os.fstat(self._file).st_size
                self._say(f"{what}; the stacks of all threads are in {self.stacks}, and the training goes on")

    @property
    def _who(self) -> str:
        return f"process {os.getpid()} on {self._host}"

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

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            print(f"rank {self.rank}: {text}", file=sys.stderr, flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
