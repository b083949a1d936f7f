"""Heartbeats, stacks on SIGUSR1 and after a stall; nothing of it stops, slows or fails a training."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ripstop.training.interruption import Interruption
from ripstop.training.lock import birth
from ripstop.training.pulse import Beat, Pulse, read_beats

HEAD = """
import ctypes, os, signal, sys, threading, time
from pathlib import Path
from ripstop.training.pulse import Pulse
out = Path(sys.argv[1])
"""


def start(out: Path, program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HEAD + textwrap.dedent(program), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.02)


def text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def explained(out: Path, rank: int = 0) -> list[tuple[datetime, str]]:
    """Time and reason of each dump."""
    found = re.findall(r"^== (\S+)  rank \d of \d, process \d+ on \S+: (.*)$", text(out / f"stacks/rank-{rank}.txt"), re.M)
    return [(datetime.fromisoformat(when), what) for when, what in found]


def test_sigusr1_shows_every_thread_and_the_training_goes_on(tmp_path: Path):
    process = start(
        tmp_path,
        """
        def reads_ahead():
            time.sleep(600)
        def trains():
            for step in range(1, 4):
                pulse.beat(step)
            print("waits", flush=True)
            sys.stdin.readline()
        threading.Thread(target=reads_ahead, daemon=True).start()
        with Pulse(out, rank=1, n_ranks=2, stall_seconds=0.4) as pulse:
            pulse.stall_seconds = 0  # only its rhythm is wanted
            trains()
        print("ended well")
        """,
    )
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    sent = datetime.now(UTC)
    os.kill(process.pid, signal.SIGUSR1)
    until(lambda: bool(explained(tmp_path, 1)), process)
    out, said = process.communicate("go on\n", timeout=60)
    assert (process.returncode, out) == (0, "ended well\n")
    dump = text(tmp_path / "stacks/rank-1.txt")
    assert "reads_ahead" in dump and "trains" in dump and dump.count("most recent call first") >= 3  # and the pulse's own
    ((when, what),) = explained(tmp_path, 1)
    assert what == "SIGUSR1 at step 3, training" and abs((when - sent).total_seconds()) < 30
    assert said == (
        f"rank 1: SIGUSR1 at step 3, training; the stacks of all threads are in {tmp_path}/stacks/rank-1.txt, "
        "and the training goes on\n"
    )


def test_a_stall_is_dumped_once_each_time_and_ends_nothing(tmp_path: Path):
    process = start(
        tmp_path,
        """
        def hangs():
            time.sleep(1.2)
        with Pulse(out, stall_seconds=0.5) as pulse:
            for step in (1, 2):
                pulse.beat(step, "validating")
                hangs()
            for _ in range(20):  # slow, and no stall
                pulse.beat(3)
                time.sleep(0.05)
        """,
    )
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 0
    reasons = [f"no beat for 0.5 s since step {step}, validating" for step in (1, 2)]
    assert [what for _, what in explained(tmp_path)] == reasons
    dump = text(tmp_path / "stacks/rank-0.txt")
    assert dump.count("in hangs") == 2
    assert [line.split("; ")[0] for line in said] == [f"rank 0: {reason}" for reason in reasons]


def test_a_thread_that_keeps_the_interpreter_is_dumped_too(tmp_path: Path):
    process = start(
        tmp_path,
        """
        from ripstop.training import pulse as module
        module.SLACK = 0.7
        def keeps_it():
            ctypes.PyDLL(None).usleep(2_500_000)  # unlike CDLL, it keeps the lock of the interpreter
        with Pulse(out, stall_seconds=0.3) as pulse:
            pulse.beat(1)
            keeps_it()
            time.sleep(0.1)
        """,
    )
    said = process.communicate(timeout=100)[1]
    dump = text(tmp_path / "stacks/rank-0.txt")
    assert process.returncode == 0 and "keeps_it" in dump
    assert (
        "the interpreter was not given up for 1 s, or the process was suspended, after step 1, training" in dump
        and "was not given up" in said
    )


def test_many_looks_at_busy_threads_end_nothing(tmp_path: Path):
    """Frames that change while they are read end a process."""
    process = start(
        tmp_path,
        """
        def deep(n):
            return n and deep(n - 1) + len([x for x in range(3)])
        def works():
            while True:
                deep(30)
        for _ in range(2):
            threading.Thread(target=works, daemon=True).start()
        with Pulse(out) as pulse:
            pulse.beat(1)
            print("works", flush=True)
            sys.stdin.readline()
        """,
    )
    assert process.stdout is not None and process.stdout.readline()
    for n in range(1, 31):
        os.kill(process.pid, signal.SIGUSR1)
        until(lambda n=n: len(explained(tmp_path)) == n, process)  # type: ignore[misc]
    process.communicate("end\n", timeout=60)
    assert process.returncode == 0


def test_the_former_handler_comes_back(tmp_path: Path):
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    try:
        with Pulse(tmp_path):
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda: len(explained(tmp_path)) == 1)
        assert got == [] and "test_the_former_handler" in text(tmp_path / "stacks/rank-0.txt")
        assert signal.set_wakeup_fd(-1) == -1
        os.kill(os.getpid(), signal.SIGUSR1)
        assert got == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_sigusr1_asks_no_training_to_stop(tmp_path: Path):
    before = signal.signal(signal.SIGUSR2, lambda number, frame: None)
    try:
        with Pulse(tmp_path), Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda: len(explained(tmp_path)) == 1)
            assert interruption.signal is None
            os.kill(os.getpid(), signal.SIGUSR2)
            assert interruption.signal == signal.SIGUSR2
        assert explained(tmp_path)[0][1] == "SIGUSR1 at step ?, starting"
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_heartbeat_says_who_where_and_when(tmp_path: Path):
    started = time.time()
    with Pulse(tmp_path, rank=2, n_ranks=3, stall_seconds=0.4, steps=24) as pulse:
        assert [(beat.step, beat.phase) for beat in read_beats(tmp_path)] == [(None, "starting")]
        pulse.beat(7, "saving")
        until(lambda: read_beats(tmp_path)[0].step == 7)
        (beat,) = read_beats(tmp_path)
        assert started <= beat.time <= time.time()
        own = (os.getpid(), os.uname().nodename, birth(os.getpid()))
        assert beat == Beat(2, 3, 7, 24, "saving", beat.time, *own)
    assert list(tmp_path.iterdir()) == []  # finished: no sign of life, and no stacks


def test_a_beat_is_written_once_for_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[int | None] = []
    write = Pulse._write
    monkeypatch.setattr(Pulse, "_write", lambda pulse, beat: (written.append(beat.step), write(pulse, beat)))
    with Pulse(tmp_path, stall_seconds=0.8) as pulse:  # looks each 0.2 s
        for step in range(100):
            pulse.beat(step)
            time.sleep(0.01)
        until(lambda: 99 in written)
        time.sleep(0.5)
    assert 4 <= len(written) <= 12 and len(set(written)) == len(written)  # nothing is written without a new beat


def test_a_reader_never_sees_half_of_one(tmp_path: Path):
    path = tmp_path / "heartbeats/rank-0.json"
    with Pulse(tmp_path, stall_seconds=0.004) as pulse:
        steps = set()
        for step in range(400):
            pulse.beat(step)
            steps.add(json.loads(path.read_text())["step"])
            time.sleep(0.001)
    assert len(steps) > 20


@pytest.mark.parametrize(
    ("error", "phase", "why"),
    [
        (RuntimeError("no\nmemory"), "failed", "RuntimeError: no memory"),
        (SystemExit(143), "stopped", "SystemExit: 143"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt:"),
    ],
)
def test_how_a_rank_ended_stays(tmp_path: Path, error: BaseException, phase: str, why: str):
    with pytest.raises(type(error)), Pulse(tmp_path, steps=24) as pulse:
        pulse.beat(5)
        raise error
    (beat,) = read_beats(tmp_path)
    assert (beat.step, beat.phase, beat.why) == (5, phase, why) and not (tmp_path / "stacks").exists()


def test_ranks_that_are_no_more_leave_no_heartbeat(tmp_path: Path):
    for rank in range(4):
        with pytest.raises(SystemExit), Pulse(tmp_path, rank, 4):
            raise SystemExit(143)
    with pytest.raises(SystemExit), Pulse(tmp_path, 1, 2):
        raise SystemExit(143)
    assert [(beat.rank, beat.n_ranks) for beat in read_beats(tmp_path)] == [(0, 4), (1, 2), (2, 4), (3, 4)]
    with pytest.raises(SystemExit), Pulse(tmp_path, 0, 2):  # the first rank clears up
        raise SystemExit(143)
    assert [(beat.rank, beat.n_ranks) for beat in read_beats(tmp_path)] == [(0, 2), (1, 2)]


@pytest.mark.parametrize("bad", ["", "junk", "[1]", "{}", '{"rank": 0', "\udcff", "null"])
def test_what_is_no_heartbeat_is_left_out(tmp_path: Path, bad: str):
    (tmp_path / "heartbeats").mkdir()
    (tmp_path / "heartbeats/rank-0.json").write_text(bad, errors="surrogateescape")
    good = json.dumps({**Beat(1, 2, 3, 4, "training", 5.0, 6, "h", "7").__dict__})
    (tmp_path / "heartbeats/rank-1.json").write_text(good)
    (tmp_path / "heartbeats/rank-2.json").write_text(good.replace("5.0", '"5"'))
    assert read_beats(tmp_path) == [Beat(1, 2, 3, 4, "training", 5.0, 6, "h", "7")]
    assert read_beats(tmp_path / "none") == []


def test_a_disk_that_takes_nothing_costs_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    with Pulse(tmp_path / "file", stall_seconds=0.2) as pulse:
        for step in range(4):
            pulse.beat(step)
            time.sleep(0.06)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "the training goes on without its heartbeat" in said[0]


def test_another_thread_may_have_one_and_leaves_signals_alone(tmp_path: Path):
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))

    def runs() -> None:
        with Pulse(tmp_path) as pulse:
            pulse.beat(1)
            os.kill(os.getpid(), signal.SIGUSR1)

    try:
        thread = threading.Thread(target=runs)
        thread.start()
        thread.join()
        until(lambda: got == [signal.SIGUSR1])
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_beat_costs_less_than_a_thousandth_of_a_step_of_five_milliseconds(tmp_path: Path):
    with Pulse(tmp_path) as pulse:
        started = time.process_time()
        for step in range(20_000):
            pulse.beat(step)
        assert (time.process_time() - started) / 20_000 < 5e-6
