"""Rank 0 of a launch prepares, and the others wait for it: until it has, or has ended without."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ripstop.config import ConfigError, TrainingError
from ripstop.training.distributed.ranks import LATER
from ripstop.training.distributed.telling import OtherRankError, several, tell
from ripstop.training.lock import WITHOUT_LOCKS

MOVES_NO_NUMBER = "it says who prepares and who waits"

PATIENCE = 300.0
"""Seconds that rank 0 may take to begin: as long as a slow disk needs to import what the others have imported."""
PAUSE = 0.2
"""Seconds between two looks."""


def rank() -> int:
    """That of this process among those that torchrun, or another launcher, has started together; 0 of one that is alone."""
    told = os.environ.get("RANK", "0")
    if several() and not told.isdecimal():
        raise ConfigError(f"RANK: {told!r} is no number of a rank; start with torchrun, or unset it")
    return int(told) if several() else 0


@contextmanager
def preparing(lock: Path) -> Iterator[None]:
    """Held by whoever prepares, one process at a time; the kernel takes the lock back when its owner dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(lock)
    try:
        yield
    finally:
        with suppress(OSError):  # before it is released: who waits for it then sees that it is gone
            lock.unlink()
        os.close(file)


def _locked(lock: Path) -> int:
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        if not _taken(file):
            print(f"{lock.parent}: another process prepares there, and is waited for", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(lock)):
                return file
        os.close(file)  # its owner removed it between our two calls


def _taken(file: int) -> bool:
    """Whether the lock is ours now, or can be nobody's. Those who look whether it is held hold it for a moment."""
    for _ in range(3):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                return True
            time.sleep(PAUSE / 4)
    return False


def await_rank_0(is_ready: Callable[[], bool], lock: Path, what: str, patience: float = PATIENCE) -> None:
    """Return when `is_ready`, which rank 0 sees to while it holds `lock`.

    `OtherRankError` where it let go and it is not, which is said where rank 0 did not say why; `TrainingError` where it has not
    begun within `patience` seconds.
    """
    begun, was_held = time.monotonic(), False
    while not is_ready():
        held = _is_held(lock)
        if is_ready():
            return
        if was_held and held is False:
            time.sleep(LATER)
            tell(
                f"error: rank 0 ended before {what} was ready, and did not say why; start the same command again", reports=False
            )
            raise OtherRankError("rank 0 of this training has ended")
        if held is False and time.monotonic() - begun > patience:
            raise TrainingError(
                f"{what}: rank 0 has not begun to prepare it within {patience:.0f} s; see what it says, and that all ranks "
                "see the same disk"
            )
        was_held = was_held or held is True
        time.sleep(PAUSE)


def _is_held(lock: Path) -> bool | None:
    """Whether a process holds it; None where the file system does not say."""
    try:
        file = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in WITHOUT_LOCKS else True
    finally:
        os.close(file)
    return False
