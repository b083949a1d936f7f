"""One process a folder: a lock that the kernel takes back when its owner dies, with the owner's name in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ripstop.config import ConfigError
from ripstop.files import object_if_any

MOVES_NO_NUMBER = "keeps a second process out"

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What `flock` says on a file system that has none."""
WAIT = "wait until it has ended, or stop it"


LOOKS, PAUSE = 3, 0.05
"""How often a lock is tried, and seconds in between: who only looks for its holder has it for a moment."""


class InUseError(ConfigError):
    """Another process holds the lock."""


class Lock:
    """Held while entered. `InUseError` names the owner where another process holds it.

    The file at `path` is left by a process that was killed; it is no obstacle, since its lock died with its owner. Where
    the file system has no locks, the owner that the file names decides: on this machine by whether it lives, on another
    one by being named at all, because nobody can ask there.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: int | None = None

    def __enter__(self) -> Self:
        looks = 0
        while self._file is None:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                os.close(file)
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno in WITHOUT_LOCKS:
                    self._file = self._by_owner()
                    continue
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                looks += 1
                if looks < LOOKS:
                    time.sleep(PAUSE)
                    continue
                raise InUseError(f"{refusal(self.path, object_if_any(self.path))}; {WAIT}") from None
            if _same(file, self.path):
                self._file = file
            else:
                os.close(file)  # its owner removed it between our two calls
        self._write_owner()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._file is not None
        if _same(self._file, self.path):
            self.path.unlink(missing_ok=True)  # before it is released: whoever waits for it then sees that it is gone
        os.close(self._file)
        self._file = None

    def _by_owner(self) -> int:
        owner = object_if_any(self.path)
        if owner and (owner.get("host") != socket.gethostname() or lives(owner)):
            raise InUseError(f"{refusal(self.path, owner)}; {WAIT}, or delete {self.path} where it no longer runs")
        print(f"{self.path.parent}: its file system has no locks; one of another machine may go unnoticed", flush=True)
        return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)

    def _write_owner(self) -> None:
        assert self._file is not None
        pid = os.getpid()
        owner = {
            "pid": pid,
            "host": socket.gethostname(),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "process": birth(pid),
            "launch": os.environ.get("TORCHELASTIC_RUN_ID", ""),
        }
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(owner).encode(), 0)
        except OSError as error:
            self.__exit__(None, None, None)
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def refusal(path: Path, owner: dict[str, Any]) -> str:
    """Whose folder that of the lock at `path` is."""
    who = "process {pid} on {host} since {started}".format_map({"pid": "?", "host": "?", "started": "?"} | owner)
    return f"{path.parent}: is in use by {who}"


def holder(path: Path) -> dict[str, Any] | None:
    """What the lock's file says of the process that holds it; None where nobody does, or the file system has no locks."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name would be waited for
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in WITHOUT_LOCKS else object_if_any(path)
    finally:
        os.close(file)
    return None


def lives(owner: dict[str, Any]) -> bool:
    """Whether the owner's process is there, and not another one that got its number."""
    pid = owner.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return birth(pid) == owner.get("process")


def birth(pid: int) -> str:
    """When the process was started, in ticks since the machine was; "" where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
