"""python -m ripstop.warm.server SOCKET PID READY: fork the commands of one execution of the workflow, with torch imported.

It ends when the process PID does, which executes the workflow, and takes along what it still runs, as a terminal would. Its
code is that of its start, to which the digests of the plan belong, whatever is edited meanwhile. Its threads, its generators of
random numbers and its memory are those of an interpreter that has imported and done nothing else, so that a command computes
what it would in an interpreter of its own, to the bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, TextIO

MOVES_NO_NUMBER = "it starts commands"

IMPORTED = ("ripstop.__main__", "ripstop.training.train", "ripstop.evaluation.evaluate", "pandas", "scipy.optimize")
LONGEST_REQUEST = 2**20
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Request:
    """A command: what follows `python -m ripstop`, its standard files, and of its client what a process inherits."""

    arguments: list[str]
    environment: dict[str, str]
    ignored: list[int]
    umask: int
    files: list[int]


def serve(path: str, executor: int, ready: int) -> Request | None:
    """Answer until the executor ends (None); in a forked process the request that it is for."""
    selector = selectors.DefaultSelector()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a server that was killed
    listener.bind(path)
    listener.listen(128)
    selector.register(listener, selectors.EVENT_READ)
    alive = os.pidfd_open(executor)
    selector.register(alive, selectors.EVENT_READ)
    gc.freeze()  # what is there now belongs to all, and a collection would copy it
    os.write(ready, b"ready")
    os.close(ready)
    children: dict[int, tuple[int, socket.socket]] = {}  # the end of a process, as a file -> itself, and its client
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                request = _request(connection)
                if request is None:
                    connection.close()
                    continue
                server, pid = os.getpid(), os.fork()
                if pid == 0:
                    _own(selector, connection, server)
                    return request
                for file in request.files:
                    os.close(file)
                ended = os.pidfd_open(pid)
                children[ended] = (pid, connection)
                selector.register(ended, selectors.EVENT_READ)
                selector.register(connection, selectors.EVENT_READ, data=pid)
                _tell(connection, {"pid": pid})
            elif key.fileobj == alive:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGKILL)
                return None
            elif key.data is not None:  # a client says nothing more: it was killed
                if key.data in [pid for pid, _ in children.values()]:  # else its command ended at the same time
                    os.kill(key.data, signal.SIGKILL)
                    selector.unregister(key.fileobj)
            else:
                _report(selector, key.fd, *children.pop(key.fd))


def _report(selector: selectors.BaseSelector, ended: int, pid: int, connection: socket.socket) -> None:
    """Tell the client of a process how it ended."""
    _, status = os.waitpid(pid, 0)
    selector.unregister(ended)
    os.close(ended)
    with contextlib.suppress(KeyError):
        selector.unregister(connection)
    _tell(connection, {"status": os.waitstatus_to_exitcode(status)})
    connection.close()


def _request(connection: socket.socket) -> Request | None:
    """None where the client was killed before it had said what it wants."""
    said, files, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, 3)
    return Request(files=files, **json.loads(said)) if said else None


def _tell(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it was killed
        connection.send(json.dumps(answer).encode())


def _own(selector: selectors.BaseSelector, connection: socket.socket, server: int) -> None:
    """In a forked process: what is the server's is closed, and the end of the server is its end."""
    for key in list(selector.get_map().values()):
        os.close(key.fd)
    selector.close()
    connection.close()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os.kill(os.getpid(), signal.SIGKILL)
    os.setpgid(0, 0)


def become(request: Request) -> None:
    """Be `python -m ripstop ARGUMENTS` in the environment of the client."""
    os.environ.clear()
    os.environ.update(request.environment)
    os.umask(request.umask)
    for number in request.ignored:
        signal.signal(number, signal.SIG_IGN)
    for target, file in enumerate(request.files):
        os.dup2(file, target)
        os.close(file)
    # A stream takes for good what its file was when it began: a log, in which one can seek.
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)
    command = importlib.import_module("ripstop.__main__")
    sys.argv = [str(command.__file__), *request.arguments]
    sys.orig_argv = [sys.orig_argv[0], "-m", "ripstop", *request.arguments]
    command.main()


def _stream(file: int, like: TextIO) -> TextIO:
    return open(file, "w", buffering=1, encoding=like.encoding, errors=like.errors, closefd=False)


def main() -> None:
    path, executor, ready = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for name in IMPORTED:
        importlib.import_module(name)
    request = serve(path, executor, ready)
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
