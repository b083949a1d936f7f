"""A training seen from outside: its rows, its ranks, how it goes or has ended, and a picture at any width."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from training.tiny import TinyStream, trainer

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.training.lock import Lock, birth
from ripstop.training.pulse import Beat, Pulse
from ripstop.watch.curve import Axes, draw, label, place
from ripstop.watch.run import QUIET, find, look
from ripstop.watch.screen import Picture, ago, duration
from ripstop.watch.watch import watch

ROOT = Path(__file__).parents[2]
NOW = 1_000_000.0
HOST = socket.gethostname()


def shown(folder: Path, width: int = 80, encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")
    watch(folder, once=True, console=Console(file=out, width=width, highlight=False, force_terminal=False))
    out.flush()
    return out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def row(step: int, **values: Any) -> str:
    told = {"loss": 2.0, "lr": 1e-3, "seconds": step * 0.5, "seconds_left": 10.0, "tokens_per_second": 1e4, "mfu": 0.25}
    return json.dumps({"step": step, "memory_bytes": 3_210_000_000, "grad_norm": 0.5} | told | values) + "\n"


def run(folder: Path, *rows: str, steps: int = 0, beats: tuple[Beat, ...] = (), report: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(rows))
    if steps:
        (folder / "config.yaml").write_text(f"training:\n  steps: {steps}\n")
    for beat in beats:
        (folder / "heartbeats").mkdir(exist_ok=True)
        (folder / f"heartbeats/rank-{beat.rank}.json").write_text(json.dumps(beat.__dict__))
    if report is not None:
        (folder / "training.json").write_text(json.dumps(report))
    return folder


def beat(rank: int = 0, n_ranks: int = 1, **changes: Any) -> Beat:
    told = {"step": 8, "steps": 24, "phase": "training", "time": NOW, "pid": os.getpid(), "host": HOST}
    return Beat(rank, n_ranks, **(told | {"process": birth(os.getpid())} | changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real training of 24 steps, with held-out losses."""
    out = tmp_path_factory.mktemp("tiny")

    def held_out() -> list[TokenBatch]:
        stream = TinyStream(9)
        return [next(stream)]

    trainer(out, validate_every=8, validation=held_out).fit()
    return out


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_real_training_fits_every_width(trained: Path, width: int):
    picture = shown(trained, width)
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert max(map(len, picture.splitlines())) <= width
    flat = " ".join(picture.split())
    for name, value in (("loss", f"{last['loss']:.4f}"), ("held-out loss", f"{last['validation_loss']:.4f}")):
        assert f"{name} {value}" in flat
    assert f"tokens/s {last['tokens_per_second']:,.0f}" in flat and f"memory {last['memory_bytes'] / 1e9:.2f} GB" in flat
    assert f"learning rate {last['lr']:.2e}" in flat and f"accuracy {last['accuracy']:.4g}" in flat
    assert (
        "step 24" in flat and any(0x2800 < ord(c) < 0x2900 for c in picture) and picture.count("○") == 3 + 1
    )  # and the legend
    assert "\x1b" not in picture


def test_where_there_is_ascii_alone_the_picture_is_ascii(trained: Path):
    picture = shown(trained, 80, "ascii")
    assert "*" in picture and "o held out" in picture


def test_the_command_is_fast_and_prints_once_where_nobody_looks(trained: Path):
    command = [sys.executable, "-X", "importtime", "-m", "ripstop", "watch", str(trained)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "held-out loss" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.M)  # which would take seconds


def test_a_terminal_is_kept_up_to_date_until_ctrl_c(tmp_path: Path):
    run(tmp_path, row(1, loss=7.25), beats=(beat(time=time.time()),))
    master, slave = pty.openpty()
    there = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    command = [sys.executable, "-m", "ripstop", "watch", "--every", "0.2", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=there, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    said = _until(master, "7.2500")
    run(tmp_path, row(1, loss=7.25), row(2, loss=6.125))
    said += _until(master, "6.1250")
    process.send_signal(signal.SIGINT)
    said += _until(master, None)
    assert process.wait(timeout=60) == 0 and "Traceback" not in said
    os.close(master)


def _until(terminal: int, text: str | None) -> str:
    """What a terminal shows until it shows `text`, or until nobody writes to it any more."""
    said, deadline = "", time.monotonic() + 100
    while text is None or text not in said:
        assert time.monotonic() < deadline, said
        try:
            more = os.read(terminal, 65536)
        except OSError:  # Linux's end of a terminal
            more = b""
        if not more:
            assert text is None, said
            return said
        said += more.decode(errors="replace")
    return said


def test_one_that_has_ended_is_shown_and_left(tmp_path: Path):
    run(tmp_path, row(8), report={"outcome": "finished", "steps": 8})
    watch(tmp_path, console=Console(file=io.StringIO(), force_terminal=True, width=80))  # returns


def test_a_last_line_that_is_being_written_is_fine(tmp_path: Path):
    run(tmp_path, row(4), row(8, loss=1.5), '{"step": 12, "lo')
    assert [r["step"] for r in look(tmp_path).rows] == [4, 8] and re.search(r"^loss +1\.5000$", shown(tmp_path, 40), re.M)


@pytest.mark.parametrize(
    "bad", ["junk", "[1]", '{"step": "9"}', '{"step": true}', '{"loss": 1}', '{"step": 3}', "NaN", "", "\0"]
)
def test_lines_that_are_no_rows_are_left_out(tmp_path: Path, bad: str):
    run(tmp_path, row(4), bad + "\n", row(8))
    assert [r["step"] for r in look(tmp_path).rows] == [4, 8]


def test_numbers_that_are_none_leave_gaps(tmp_path: Path):
    rows = [row(4, loss=None), row(8, loss=2.5), row(12, loss=float("nan")), row(16, loss=10**400)]
    watched = look(run(tmp_path, *rows))
    assert watched.series("loss") == [(8, 2.5)] and watched.last("loss") == 2.5 and "2.5000" in shown(tmp_path)


def test_no_row_yet_is_a_picture_too(tmp_path: Path):
    run(tmp_path, steps=24, beats=(beat(step=None, phase="starting", time=time.time()),))
    picture = shown(tmp_path)
    assert (
        "running: starting" in picture and "step 0/24" in picture and "rank 0 of 1  step -  starting  beat 0 s ago" in picture
    )


def test_steps_and_times(tmp_path: Path):
    watched = look(run(tmp_path, row(4, seconds=2.0), row(8, seconds=3.0), steps=24), now=NOW)
    os.utime(tmp_path / "metrics.jsonl", (NOW - 4, NOW - 4))
    assert watched.steps == 24 and watched.step == 8 and watched.step_seconds == 0.25
    assert look(tmp_path, now=NOW).seconds_left == 6.0 and look(tmp_path, now=NOW + 99).seconds_left == 0.0
    assert look(run(tmp_path, row(4, seconds=2.0))).step_seconds == 0.5 and look(run(tmp_path)).step_seconds is None
    ahead = look(run(tmp_path, row(8), beats=(beat(step=11, steps=30),)), now=NOW)
    assert (ahead.step, ahead.steps) == (11, 30)


ALIVE, OTHER = {}, {"host": "elsewhere"}
GONE = {"process": "1"}  # another process has got its number
STATES: dict[str, tuple[tuple[Beat, ...], dict[str, Any] | None, str, str]] = {
    "finished": ((), {"outcome": "finished"}, "finished", ""),
    "diverged": ((), {"outcome": "diverged", "diverged_at": 7}, "diverged", "at step 7"),
    "runs": ((beat(), beat(1, phase="validating")), None, "running", "training, validating"),
    "silent": ((beat(), beat(1, time=NOW - QUIET - 1)), None, "silent", "no beat of rank 1"),
    "silent elsewhere": ((beat(**OTHER, time=NOW - QUIET - 1),), None, "silent", "no beat of rank 0"),
    "elsewhere": ((beat(**OTHER, pid=1, process="x"),), None, "running", "training"),
    "a clock ahead": ((beat(time=NOW + 900),), None, "running", "training"),
    "killed": ((beat(), beat(1, **GONE)), None, "killed", "rank 1 ended without a word (kill -9, or no memory)"),
    "failed": ((beat(), beat(1, phase="failed", why="OSError: no")), None, "failed", "rank 1: OSError: no"),
    "failed with one": (
        (beat(phase="failed", why="Read error"), beat(1, **GONE)),
        None,
        "failed",
        "rank 1 ended without a word (kill -9, or no memory); rank 0: Read error",
    ),
    "stopped": ((beat(phase="stopped", why="SystemExit: 143"),), None, "stopped", "by SIGTERM; the same command resumes it"),
    "Ctrl-C": ((beat(phase="stopped", why="KeyboardInterrupt:"),), None, "stopped", "by Ctrl-C;"),
    "interrupted without a pulse": ((), None, "stopped", "the same command resumes it"),
}


@pytest.mark.parametrize("name", STATES)
def test_how_it_goes_or_has_ended(tmp_path: Path, name: str):
    beats, report, state, why = STATES[name]
    watched = look(run(tmp_path, row(8), beats=beats, report=report), now=NOW)
    assert watched.state == state and watched.why.startswith(why)
    out = io.StringIO()
    Console(file=out, width=80).print(Picture(watched))
    assert f"\n{state}{': ' if why else ''}{why[:30]}" in out.getvalue().replace(" \n", " ")


def test_slow_steps_are_no_silence(tmp_path: Path):
    run(tmp_path, row(4, seconds=100.0), row(8, seconds=180.0), beats=(beat(time=NOW - 199),))
    assert look(tmp_path, now=NOW).state == "running" and look(tmp_path, now=NOW + 2).state == "silent"


def test_a_silent_rank_is_warned_of_with_what_shows_its_stacks(tmp_path: Path):
    old = time.time() - 600
    run(tmp_path, row(8), beats=(beat(time=time.time()), beat(1, 2, time=old)))
    (warned,) = [line for line in shown(tmp_path, 160).splitlines() if line.startswith("rank 1")]
    assert "beat 10 min ago" in warned and f"no beat: `kill -USR1 {os.getpid()}` there shows its stacks" in warned
    assert shown(tmp_path, 160).count("kill -USR1") == 1


def test_without_a_pulse_the_lock_tells(tmp_path: Path):
    run(tmp_path, row(8))
    with Lock(tmp_path / "training.lock"):
        assert look(tmp_path).state == "running" and str(os.getpid()) in look(tmp_path).why
    owner = {"pid": os.getpid(), "host": HOST, "process": "1"}
    (tmp_path / "training.lock").write_text(json.dumps(owner))
    assert look(tmp_path).state == "killed"
    (tmp_path / "training.lock").write_text(json.dumps(owner | {"host": "elsewhere"}))
    assert look(tmp_path).state == "running" and "elsewhere" in look(tmp_path).why


def test_a_training_with_a_pulse_is_seen_running_killed_and_finished(tmp_path: Path):
    """Real processes: one is killed."""
    program = "import sys, time; from pathlib import Path; from ripstop.training.pulse import Pulse\n"
    program += "with Pulse(Path(sys.argv[1]), steps=9) as pulse: pulse.beat(3); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    assert look(tmp_path).state == "running" and f"process {process.pid}" in shown(tmp_path)
    process.kill()
    process.wait()
    assert look(tmp_path).state == "killed" and look(tmp_path).steps == 9
    with Pulse(tmp_path, steps=9):  # it is started again, and ends well
        assert look(tmp_path).state == "running"
    run(tmp_path, row(9), report={"outcome": "finished", "steps": 9})
    assert look(tmp_path).state == "finished"


def study(root: Path) -> Path:
    runs = root / "cpu" / "mqar_cliff" / "runs"
    run(runs / "architecture-attention_seed-0", row(8, validation_loss=1.75), report={"outcome": "finished"}, steps=8)
    run(runs / "architecture-mamba2_seed-0", row(4, loss=3.25), beats=(beat(time=time.time()),))
    (runs / "architecture-mamba2_seed-1").mkdir()
    (runs / "architecture-mamba2_seed-1" / "train.code").write_text("c0de\n")
    (runs / "no run").mkdir()
    return root / "cpu"


@pytest.mark.parametrize("width", [50, 80, 120])
@pytest.mark.parametrize("below", ["", "mqar_cliff", "mqar_cliff/runs"])
def test_a_study_has_a_line_a_run(tmp_path: Path, width: int, below: str):
    picture = shown(study(tmp_path) / below, width)
    flat = picture.replace("\n", " ")
    assert max(map(len, picture.splitlines())) <= width
    for text in ("finished", "8/8", "2.0000", "running", "8/24", "3.2500", "not started"):
        assert text in flat
    assert picture.splitlines()[-1] == "3 trainings: 1 not started, 1 running, 1 finished"
    assert ("1.7500" in flat) == (width >= 72) and ("10,000" in flat) == (width >= 110)
    assert width < 80 or "architecture-mamba2_seed-1" in flat


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "config.yaml").write_text("kind: mqar\n")
    with pytest.raises(ConfigError, match=r"no training lies here; name the folder of a run, such as results/cpu"):
        find(tmp_path)
    with pytest.raises(ConfigError, match=r"none: there is no such folder"):
        find(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"config.yaml: there is no such folder"):
        find(tmp_path / "data" / "config.yaml")


def test_a_run_that_goes_away_while_it_is_watched_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path / "run", row(4))
    monkeypatch.setattr("ripstop.watch.watch.ENDED", set())
    monkeypatch.setattr("ripstop.watch.watch.time.sleep", lambda seconds: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(ConfigError, match="no such folder"):
        watch(tmp_path / "run", console=Console(file=io.StringIO(), force_terminal=True, width=80))


def dots(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Column and row of each dot of a braille picture, from the code points' own definition."""
    bits = {0x01: (0, 0), 0x02: (0, 1), 0x04: (0, 2), 0x08: (1, 0), 0x10: (1, 1), 0x20: (1, 2), 0x40: (0, 3), 0x80: (1, 3)}
    for y, line in enumerate(lines):
        for x, character in enumerate(line):
            for bit, (dx, dy) in bits.items():
                if character != " " and (ord(character) - 0x2800) & bit:
                    yield 2 * x + dx, 4 * y + dy


def test_a_curve_by_hand():
    axes = Axes(0, 3, 0, 7)
    assert draw([(0, 7), (3, 7)], axes, 2, 2) == ["⠉⠉", "  "]  # the top row of dots
    assert draw([(0, 0)], axes, 2, 2) == ["  ", "⡀ "]  # the lowest dot of the first column
    for x in range(4):
        for y in range(8):
            assert set(dots(draw([(x, 7 - y)], axes, 2, 2))) == {(x, y)}
    assert set(dots(draw([(0, 7), (3, 0)], axes, 2, 2))) >= {(0, 0), (3, 7)}
    assert len(set(dots(draw([(0, 7), (3, 0)], axes, 2, 2)))) == 8  # a dot in each row: no gap
    assert draw([(0, 7), (3, 0)], axes, 4, 2, ascii_only=True) == ["**  ", "  **"]


def test_axes_hold_every_point_and_are_never_flat():
    axes = Axes.around([(5, 2.0), (10, 4.0)], [(20, 3.0)])
    assert axes == Axes(0, 20, 2.0, 4.0) and [place(x, y, axes, 21, 5) for x, y in ((0, 4.0), (20, 2.0))] == [(0, 0), (20, 4)]
    for value in (0.0, 2.0, -1e-8):
        flat = Axes.around([(1, value)])
        assert flat.bottom < value < flat.top and place(1, value, flat, 9, 9) == (8, 4)
    steep = Axes.around([(1, 0.5), (2, 8.0)])
    assert steep.log and steep.height(2.0) == pytest.approx(0.5) and steep.at(0.5) == pytest.approx(2.0)
    assert not Axes.around([(1, -0.5), (2, 8.0)]).log


def test_labels_and_times():
    assert [label(v) for v in (0.0, 2.0, 12.34567, 123.4567, 0.01234, 1e-5, 123456.7, -3.0)] == [
        "0", "2.000", "12.35", "123.5", "0.01234", "1.0e-05", "1.2e+05", "-3.000"
    ]  # fmt: skip
    assert [ago(s) for s in (0.4, 119, 120, 7200, 200_000)] == ["0 s", "119 s", "2 min", "2 h", "2 days"]
    assert duration(3661.4) == "1:01:01"
