"""Faults, as a process lets them happen to itself before a command begins."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def largest_file(n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def memory(n_bytes: int) -> None:
    """So many bytes more than the process has now."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + n_bytes, now + n_bytes))


def open_files(number: int) -> None:
    """So many more than are open now."""
    now = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (now + number, now + number))


def clock(seconds: float) -> None:
    """The clock of the day goes wrong by so many seconds; that which measures intervals cannot."""
    right = time.time
    time.time = lambda: right() + seconds


def closed_output() -> None:
    os.close(1)
    sys.stdout = None  # type: ignore[assignment]


def killed_at_byte(number: int) -> None:
    """The kernel kills the process when one of its files is about to grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores, so that it sees an error
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    largest_file(number)


def failing_sync() -> None:
    """`fsync` says that the disk did not keep what it took. It cannot be asked of a real disk."""

    def refused(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    os.fsync = refused


def unreadable(path: str, number: int) -> None:
    """Reading the file, which can be opened, ends with an error: of the disk, or of an NFS server that has lost it."""
    link = Path(path)
    if number == errno.EIO:
        link.unlink()
        link.symlink_to("/proc/self/mem")  # whose first byte is nowhere
        return
    opened = io.open

    def opening(file: object, *arguments: object, **options: object) -> object:
        found = opened(file, *arguments, **options)  # type: ignore[call-overload]
        if isinstance(file, str | Path) and str(Path(file).absolute()) == path:
            raise OSError(number, os.strerror(number), str(file))
        return found

    io.open = builtins.open = opening  # type: ignore[assignment]


def jumping_clock(seconds: float) -> None:
    """The clock of the day jumps each time that it is read, now forwards and now backwards, by ever more of so many seconds."""
    right, looks = time.time, itertools.count(1)
    time.time = lambda: right() + seconds * (number if (number := next(looks)) % 2 else -number)


def sent_after_checkpoints(number: int, asking: signal.Signals) -> None:
    """The process is sent a signal when it has written so many checkpoints."""
    from ripstop.training.checkpoint import Checkpoints

    save, saved = Checkpoints.save, itertools.count(1)

    def saving(self: Checkpoints, step: int, state: dict[str, Any]) -> Path:
        path = save(self, step, state)
        if next(saved) == number:
            os.kill(os.getpid(), asking)
        return path

    Checkpoints.save = saving  # type: ignore[method-assign]


def gone() -> None:
    """The working directory is removed."""
    os.chdir(tempfile.mkdtemp())
    os.rmdir(os.getcwd())
