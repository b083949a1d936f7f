"""Commands that are forked from a process with torch: what they compute, how they end, and who is killed with whom."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults.conftest import ROOT, Tree
from faults.test_disks import numbers

from ripstop import yaml_file
from ripstop.warm import client

CLIENT = ROOT / "src/ripstop/warm/client.py"
LONG = ("--set", "training.steps=5000")
"""A minute of it."""


@dataclass
class Execution:
    """Something that executes commands, in whose name a server works."""

    folder: Path
    root: Path
    process: subprocess.Popen[bytes] = field(default_factory=lambda: subprocess.Popen(["sleep", "600"]))

    def begin(self, *arguments: object, python: str = sys.executable, **environment: str) -> subprocess.Popen[str]:
        """`python -m ripstop ARGUMENTS`, begun warm."""
        warm = os.environ | {"RIPSTOP_WARM": f"{self.folder}:{self.process.pid}"} | environment
        command = [sys.executable, "-I", "-S", CLIENT, python, "-m", "ripstop", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=warm, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: object, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        process = self.begin(*arguments, **environment)
        said, told = process.communicate(timeout=120)
        return process.returncode, said, told

    @property
    def servers(self) -> list[int]:
        return with_argument(f"{self.folder}/")


def with_argument(part: str) -> list[int]:
    """Processes of servers, and what they forked, that have an argument with this in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if part.encode() in path.read_bytes() and b"ripstop.warm.server" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait(for_what: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not for_what():
        assert time.monotonic() < end
        time.sleep(0.02)


def at_work(tree: Tree) -> bool:
    path = tree.here / "metrics.jsonl"
    return path.is_file() and path.stat().st_size > 0


@pytest.fixture
def execution(fresh: Tree) -> Iterator[Execution]:
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:  # a socket's path has room for a hundred letters
        found = Execution(Path(folder), fresh.root)
        yield found
        found.process.kill()
        found.process.wait()
        wait(lambda: not found.servers)


def test_a_warm_command_computes_the_same_bits_and_ends_with_the_same_words(
    execution: Execution, fresh: Tree, measured: Tree
) -> None:
    for command in ("train", "evaluate"):
        status, said, told = execution.run(command, fresh.run)
        assert status == 0, told
    assert len(execution.servers) == 1
    assert numbers(fresh) == numbers(measured)
    for path in measured.here.glob("parts/*/records.jsonl"):
        assert (fresh.root / path.relative_to(measured.root)).read_bytes() == path.read_bytes()
    env = yaml_file.mapping(fresh.here / "env.json")
    assert env["command"] == f"{sys.executable} -m ripstop train {fresh.run}" and "RIPSTOP_WARM" not in env["environment"]
    cold = subprocess.run([sys.executable, "-m", "ripstop", "train"], cwd=fresh.root, capture_output=True, text=True)
    assert execution.run("train") == (cold.returncode, cold.stdout, cold.stderr) and cold.returncode == 2


def test_commands_that_begin_together_share_one_server(execution: Execution) -> None:
    processes = [execution.begin("scale") for _ in range(4)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["smoke\n"] * 4
    assert len(execution.servers) == 1
    assert execution.run("scale", OMP_NUM_THREADS="2")[:2] == (0, "smoke\n")
    assert len(execution.servers) == 2, "what torch reads as it is imported makes another"


def test_where_no_server_can_be_had_the_command_runs_as_it_stands(execution: Execution) -> None:
    long = execution.folder / ("x" * 100)
    long.mkdir()
    for environment in (
        {"RIPSTOP_WARM": ""},
        {"RIPSTOP_WARM": "nonsense"},
        {"RIPSTOP_WARM": f"{execution.folder}/none:{execution.process.pid}"},
        {"RIPSTOP_WARM": f"{long}:{execution.process.pid}"},
        {"RIPSTOP_WARM": f"{execution.folder}:{2**22 - 1}"},  # no such process
        {f"LONG_{i}": "x" * 100_000 for i in range(5)},
    ):
        assert execution.run("scale", **environment)[:2] == (0, "smoke\n"), environment


def test_where_a_process_has_no_handle_no_server_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container whose rules refuse the call: every command would begin a server that ends at once."""

    def refuses(pid: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def run(file: str, command: list[str]) -> None:
        raise SystemExit(" ".join([file, *command]))

    monkeypatch.setenv(client.VARIABLE, f"{tmp_path}:{os.getpid()}")
    monkeypatch.setattr(os, "pidfd_open", refuses)
    monkeypatch.setattr(os, "execvp", run)
    with pytest.raises(SystemExit, match="^python python -m ripstop scale$"):
        client.main(["python", "-m", "ripstop", "scale"])
    assert not list(tmp_path.iterdir())


def test_a_command_that_ends_as_its_client_is_killed_costs_no_other(execution: Execution, fresh: Tree) -> None:
    training = execution.begin("train", fresh.run, *LONG)
    wait(lambda: at_work(fresh))
    server, child = sorted(execution.servers)
    os.kill(server, signal.SIGSTOP)  # so that it hears of both at once
    os.kill(child, signal.SIGKILL)
    wait(lambda: state(child) == "Z")
    training.kill()
    training.communicate(timeout=100)
    os.kill(server, signal.SIGCONT)
    assert execution.run("scale")[:2] == (0, "smoke\n") and execution.servers == [server]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_reaches_a_warm_training_which_saves_and_goes_on(
    execution: Execution, fresh: Tree, number: signal.Signals
) -> None:
    training = execution.begin("train", fresh.run, *LONG)
    wait(lambda: at_work(fresh))
    training.send_signal(signal.SIGUSR1)  # asks where it is, and stops nothing
    training.send_signal(number)
    _, told = training.communicate(timeout=100)
    assert training.returncode == 128 + number and "Traceback" not in told
    assert list((fresh.here / "checkpoints").glob("step-*"))
    assert not (fresh.here / "training.lock").exists()


def test_a_warm_command_stops_and_goes_on_with_the_terminal(execution: Execution, fresh: Tree) -> None:
    training = execution.begin("train", fresh.run, *LONG)
    wait(lambda: at_work(fresh))
    (child,) = [pid for pid in execution.servers if pid != min(execution.servers)]
    training.send_signal(signal.SIGTSTP)
    wait(lambda: state(child) == state(training.pid) == "T")
    training.send_signal(signal.SIGCONT)
    wait(lambda: "T" not in (state(child), state(training.pid)))
    training.terminate()
    training.communicate(timeout=100)
    assert training.returncode == 128 + signal.SIGTERM


def state(pid: int) -> str:
    """R: runs, S: waits, T: stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


@pytest.mark.parametrize("killed", ["client", "command", "server", "execution"])
def test_a_warm_command_whose_client_server_or_execution_is_killed_leaves_nothing_behind(
    execution: Execution, fresh: Tree, measured: Tree, killed: str
) -> None:
    training = execution.begin("train", fresh.run, *LONG)
    wait(lambda: at_work(fresh))
    server, child = sorted(execution.servers)
    pids = {"client": training.pid, "command": child, "server": server, "execution": execution.process.pid}
    os.kill(pids[killed], signal.SIGKILL)
    _, told = training.communicate(timeout=100)
    assert training.returncode != 0
    wait(lambda: child not in execution.servers)
    if killed in ("server", "execution"):
        assert "the process that ran this command was killed" in told
        execution.process.wait() if killed == "execution" else None
        wait(lambda: not execution.servers)
    else:
        assert training.returncode == -signal.SIGKILL and execution.servers == [server]
    assert execution.run("train", fresh.run)[0] == 0
    assert numbers(fresh) == numbers(measured)
