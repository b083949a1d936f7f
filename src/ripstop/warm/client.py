"""warm PYTHON -m ripstop ARGUMENT...: the command in a process forked from one that has imported torch, or as it stands.

An execution of the workflow runs a thousand short commands, and `import torch` takes two seconds of each. The environment
variable RIPSTOP_WARM names a folder and the process that executes the workflow, `FOLDER:PID`; there the first command leaves a
server (`server.py`), which ends with that process. Where there is none, or no server can be had, the command runs as it stands.

To whoever starts it this process is the command: it takes the same signals, ends with the same status, and when it is killed so
is the command. It runs as a plain file, without the package, so that it costs nothing itself.
"""

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

MOVES_NO_NUMBER = "it starts commands"

VARIABLE = "RIPSTOP_WARM"
OF_A_COMMAND = {"RIPSTOP_LOG", "SHLVL", "_"}
"""Environment variables that differ between the commands of one execution. A server is for one set of the others, of which
some, such as OMP_NUM_THREADS, act as torch is imported."""
SENT_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
LONGEST_MESSAGE = 2**16


def main(command: list[str]) -> NoReturn:
    """Run the command and end as it ends."""
    folder, _, pid = os.environ.get(VARIABLE, "").rpartition(":")
    if folder and pid.isdigit() and command[1:3] == ["-m", "ripstop"] and hasattr(os, "pidfd_open"):
        with suppress(OSError):  # of an environment that is too large for a message, among others
            os.close(os.pidfd_open(os.getpid()))  # a server needs it, and would be started in vain where it is refused
            connection = _connected(folder, pid, command[0])
            if connection is not None:
                _ask(connection, command[3:])
                _as_child(connection)
    os.execvp(command[0], command)


def _connected(folder: str, pid: str, python: str) -> socket.socket | None:
    """A connection to the server for this interpreter, folder and environment, which is started where there is none."""
    kept = sorted(item for item in os.environ.items() if item[0] not in OF_A_COMMAND)
    path = os.path.join(folder, hashlib.sha256(repr((python, os.getcwd(), kept)).encode()).hexdigest()[:16])
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of commands that begin together one starts the server
        with suppress(ConnectionRefusedError, FileNotFoundError):
            return _connection(path)
        ready, told = os.pipe()
        arguments = [python, "-m", "ripstop.warm.server", path, pid, str(told)]
        with open(f"{path}.log", "wb") as log:  # not this command's own output, whose end a reader waits for
            subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[told], start_new_session=True
            )
        os.close(told)
        with open(ready, "rb") as answer:
            return _connection(path) if answer.read() else None


def _connection(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, arguments: list[str]) -> None:
    """Have the server run the command, with the files and the settings of this process."""
    umask = os.umask(0)
    os.umask(umask)
    ignored = [int(number) for number in SENT_ON if signal.getsignal(number) is signal.SIG_IGN]
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    request = {"arguments": arguments, "environment": environment, "ignored": ignored, "umask": umask}
    socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])


def _as_child(connection: socket.socket) -> NoReturn:
    """Pass signals on to the process of the command, and end as it ends."""
    pid = 0
    early: list[int] = []

    def send_on(number: int, frame: FrameType | None) -> None:
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        else:
            early.append(number)

    def stop(number: int, frame: FrameType | None) -> None:
        send_on(signal.SIGSTOP, frame)
        os.kill(os.getpid(), signal.SIGSTOP)
        send_on(signal.SIGCONT, frame)

    for number in SENT_ON:
        signal.signal(number, send_on)
    signal.signal(signal.SIGTSTP, stop)
    pid = _answer(connection)["pid"]
    for asked in early:
        send_on(asked, None)
    status = _answer(connection)["status"]
    if status >= 0:
        sys.exit(status)
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    sys.exit(128 - status)  # of a signal that ends no process by itself


def _answer(connection: socket.socket) -> dict[str, Any]:
    """The server's next message."""
    said = connection.recv(LONGEST_MESSAGE)
    if not said:
        sys.exit("error: the process that ran this command was killed; run it again")
    return json.loads(said)


if __name__ == "__main__":
    main(sys.argv[1:])
