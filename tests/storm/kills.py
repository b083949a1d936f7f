"""Kills of an execution of the workflow: which of its processes, by which signal and when is drawn from a seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from storm.study import COMMAND, there

Kill = Callable[[random.Random], str | None]
"""Does it, and says what was done; None where there is nothing to be killed."""

SIGNALS = ("SIGTERM", "SIGKILL", "SIGUSR1", "SIGUSR2")


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def processes(folder: Path, is_wanted: Callable[[list[str]], bool]) -> list[int]:
    """Those that run in `folder`, by their numbers."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cwd").readlink() == folder and is_wanted(command_line(int(entry.name))):
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def is_command(arguments: list[str]) -> bool:
    """A training, an evaluation, or another command of a job."""
    return arguments[1:3] == ["-m", "ripstop"]


def is_log(arguments: list[str]) -> bool:
    """What keeps the log of a command, in any of its three processes, or what it made."""
    return any(argument.endswith(("scripts/logged", "scripts/once")) for argument in arguments[:2])


def is_driver(arguments: list[str]) -> bool:
    """Snakemake as it was started by us."""
    return any(argument.endswith("bin/snakemake") for argument in arguments[:2])


def by_signal(folder: Path, is_wanted: Callable[[list[str]], bool], *names: str) -> Kill:
    """One of the processes, by one of the signals."""

    def kill(draw: random.Random) -> str | None:
        found, name = processes(folder, is_wanted), draw.choice(names)
        if not found:
            return None
        pid = draw.choice(found)
        told = " ".join(command_line(pid)[:5])
        try:
            os.kill(pid, getattr(signal, name))
        except ProcessLookupError:
            return None
        return f"{name} to process {pid}: {told}"

    return kill


def storm(folder: Path, kills: list[Kill], n: int, seed: int, pause: tuple[float, float], options: tuple[str, ...] = ()) -> int:
    """Run the study to its end, start it again wherever it ended otherwise, and do `n` of the kills on the way, after pauses of
    seconds between those two. Returns how often it was started. An execution in which nothing was killed has to end well.
    """
    draw, done, executions = random.Random(seed), 0, 0
    while True:
        executions += 1
        before = done
        with (folder / f"execution-{executions}.txt").open("w") as said:
            driver = subprocess.Popen([*COMMAND, *options], cwd=folder, env=there(folder), stdout=said, stderr=said)
            try:
                while done < n:
                    until = time.monotonic() + draw.uniform(*pause)
                    while time.monotonic() < until and driver.poll() is None:
                        time.sleep(0.05)
                    if driver.poll() is not None:
                        break
                    if told := draw.choice(kills)(draw):
                        done += 1
                        print(f"{time.strftime('%T')} kill {done} of {n}: {told}", flush=True)
                status = driver.wait()
            finally:
                driver.kill()
        print(f"{time.strftime('%T')} execution {executions} ended with {status} after {done - before} kills", flush=True)
        if status == 0 and done == n:
            return executions
        assert done > before or status == 0, Path(said.name).read_text()
        assert status or done > before, "the study was finished before the storm: give it more steps"
