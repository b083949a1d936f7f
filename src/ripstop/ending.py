"""How a command ends: what a user or a machine caused is one sentence on standard error, a bug is its traceback."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import typer
from pydantic import ValidationError

from ripstop.config import ConfigError, TrainingError, explain
from ripstop.files import halved, sentence
from ripstop.training.distributed.telling import OtherRankError, tell
from ripstop.training.interruption import ASKING

MOVES_NO_NUMBER = "it reports what others did"

BAD_INPUT, FAILED, INTERRUPTED, NOBODY_READS = 2, 1, 128 + signal.SIGINT, 128 + signal.SIGPIPE
LOG = "RIPSTOP_LOG"
"""Environment variable with the path of the log that holds the command's output, where something keeps one."""

# Typer's errors of usage; it brings its own copy of click, so they are found by what it makes public.
_Usage = typer.BadParameter.__bases__[0]
_NO_HOME = "Could not determine home directory."
_MEMORY = re.compile(r"DefaultCPUAllocator|out of memory|can't allocate memory", re.I)


def run(app: typer.Typer) -> int:
    """Run the command that the arguments name, and say how it ended. The exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale that cannot show a character is no reason to stop
    with _signals_clean_up():
        try:
            status = typer.main.get_command(app)(standalone_mode=False)
            if sys.stdout is not None:  # as a shell's `>&-` leaves it
                sys.stdout.flush()
            if status == INTERRUPTED:
                return _say("stopped by Ctrl-C", INTERRUPTED)
            return status if isinstance(status, int) else 0
        except BaseException as error:
            status = _ending(error)
            _drop_output()
            return status


def put(line: str, end: str = "\n") -> None:
    """A line, or its beginning, on standard output, at once; where that is closed or does not take it, the error names it."""
    if sys.stdout is None:
        raise ConfigError("standard output: is closed; leave it open, or send it to a file")
    try:
        print(line, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), "standard output") from None


def _ending(error: BaseException) -> int:
    """Say how the command ended; the exit status."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        error = error.__context__  # Typer turns it into an exit without a word
    match error:
        case SystemExit():
            return _say(error.code, FAILED) if isinstance(error.code, str) else int(error.code or 0)
        case OtherRankError():
            return FAILED
        case ConfigError() | TrainingError():
            return _say(error, BAD_INPUT)
        case ValidationError():
            return _say(explain(error, error.title), BAD_INPUT)
        case KeyboardInterrupt() | typer.Abort():
            return _say("stopped by Ctrl-C", INTERRUPTED)
        case BrokenPipeError():
            return _say("nobody reads the output any more", NOBODY_READS)
        case OSError():
            return _say(sentence(error), FAILED)
        case UnicodeEncodeError() if error.reason == "surrogates not allowed":  # only what was read can hold them
            return _say(halved(error), BAD_INPUT)
        case ModuleNotFoundError() if error.name and not error.name.startswith("ripstop"):
            hint = "activate the environment (. .venv/bin/activate), or make it with `make setup`"
            return _say(f"the package {error.name.split('.')[0]} is not installed; {hint}", FAILED)
    if isinstance(error, _Usage):
        return _usage(error)
    if isinstance(error, RuntimeError) and str(error) == _NO_HOME:  # of pathlib
        return _say("a path begins with ~ and the name of nobody here; write the path out", BAD_INPUT)
    # torch has an error of its own for each device, none of them a MemoryError
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _MEMORY.search(str(error))):
        return _say("the memory does not suffice; make the model, the batch or the number of jobs smaller", FAILED)
    log = f" The whole output is in {os.environ[LOG]}." if os.environ.get(LOG) else ""
    bug = f"error: this is a bug in ripstop; please report it with the lines above.{log}"
    tell("".join([*traceback.format_exception(error), bug]))
    return FAILED


def _drop_output() -> None:
    """What standard output does not take goes nowhere: the interpreter would try again as it ends, and fail by itself."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nothing, suppress(OSError, ValueError):
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _say(message: object, status: int) -> int:
    """One sentence on standard error, where that can still be written; the status."""
    with suppress(OSError):
        tell(f"error: {' '.join(str(message).split())}")
    return status


def _usage(error: Any) -> int:
    """Say what was wrong with the arguments, and how to see the right ones."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
        return BAD_INPUT
    command = error.ctx.command_path if error.ctx is not None else "python -m ripstop"
    return _say(f"{error.format_message().rstrip('.')}; `{command} --help` shows how it is used", BAD_INPUT)


@contextmanager
def _signals_clean_up() -> Iterator[None]:
    """What asks to stop ends the command as an exception does: what it was writing is taken away again. SIGUSR1 asks where a
    training is, and ends no command, nor one that is only about to train."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(_say(f"stopped by {signal.Signals(number).name}", 128 + number))

    def go_on(number: int, frame: FrameType | None) -> None: ...

    before: dict[int, Callable[..., Any] | int | None] = {}
    for asking in (*ASKING, signal.SIGUSR1):
        if signal.getsignal(asking) is signal.SIG_DFL:  # not where it is ignored, as SIGHUP is under nohup
            before[asking] = signal.signal(asking, go_on if asking == signal.SIGUSR1 else stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
