"""Faults, as a process lets them happen to itself before a command begins."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time


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
