"""The commands of the house in processes of their own, each with a fault in it.

A process is forked from a server that has imported torch once, so that a command takes a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["ripstop.__main__", "ripstop.training.train", "ripstop.evaluation.evaluate"])
SECONDS = 250


@dataclass(frozen=True)
class Ended:
    """status: of the exit, or minus the signal that killed it. said: standard output; told: standard error."""

    status: int
    said: str
    told: str

    @property
    def sentence(self) -> str:
        """The one sentence that the command ended with."""
        lines = self.told.splitlines()
        assert self.status > 0 and lines, (self.status, self.said, self.told)
        assert lines[-1].startswith("error: ") and "Traceback" not in self.told, self.told
        return lines[-1].removeprefix("error: ")


class Command:
    """`python -m ripstop ARGUMENTS` in `folder`, begun. fault: runs first in its process."""

    def __init__(self, folder: Path, *arguments: object, fault: Callable[[], object] | None = None, **environment: str):
        self._folder = tempfile.TemporaryDirectory(prefix="ripstop-")
        self._output = Path(self._folder.name)
        told = [str(argument) for argument in arguments]
        self.process: BaseProcess = SERVER.Process(target=_main, args=(folder, told, self._output, fault, environment))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def said(self) -> str:
        """Standard output so far."""
        path = self._output / "1"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def end(self) -> Ended:
        """Wait for its end."""
        status = _joined(self.process)
        return Ended(status, self.said(), (self._output / "2").read_text(encoding="utf-8", errors="replace"))


def run(folder: Path, *arguments: object, fault: Callable[[], object] | None = None, **environment: str) -> Ended:
    """How the command ends."""
    return Command(folder, *arguments, fault=fault, **environment).end()


def work(folder: Path, *arguments: object, **environment: str) -> str:
    """What a command says that has to end well."""
    ended = run(folder, *arguments, **environment)
    assert ended.status == 0, ended.told
    return ended.said


def child(call: Callable[..., object], *arguments: Any) -> int:
    """The exit status of a process that makes this call; minus a signal's number where that killed it."""
    process = SERVER.Process(target=call, args=arguments)
    process.start()
    return _joined(process)


def _joined(process: BaseProcess) -> int:
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"no end after {SECONDS} seconds")
    return process.exitcode


def _main(
    folder: Path, arguments: list[str], output: Path, fault: Callable[[], object] | None, environment: dict[str, str]
) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    for number in (1, 2):
        os.dup2(os.open(output / str(number), os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["ripstop", *arguments]
    if fault is not None:
        fault()
    from ripstop import __main__

    __main__.main()
