"""Rows of metrics, progress on a terminal and in a log, events for TensorBoard."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from training.test_checkpoint import largest_file
from training.tiny import reporting, rows, trainer

from ripstop.config import TrainingError
from ripstop.training.monitor import Heartbeat, Monitor, peak_memory, rows_until
from ripstop.training.peak import Peak

CPU = torch.device("cpu")


def monitor(out: Path, first_step: int = 0, console: Console | None = None, **changes) -> Monitor:
    return Monitor(out, 24, reporting(**changes), CPU, Peak(1e9, "test"), first_step, 100.0, console)


def test_a_row_counts_what_happened_since_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 2.0, 6.0])
    monkeypatch.setattr("ripstop.training.monitor.time.perf_counter", lambda: next(clock))
    with monitor(tmp_path) as watched:
        for step in (1, 2, 3, 4):
            watched.count(tokens=50, flops=2e8)
            if step % 2 == 0:
                watched.heartbeat(step, loss=1.5, lr=0.1, grad_norm=2.0)
    first, second = rows(tmp_path)
    assert (first["tokens_per_second"], first["mfu"]) == (50.0, 0.2)  # 100 tokens and 0.4 GFLOP in 2 s of 1 GFLOP/s
    assert (second["tokens_per_second"], second["mfu"]) == (25.0, 0.1)
    assert (first["seconds"], first["seconds_left"]) == (102.0, 22.0)  # 22 steps left at 1 s each
    assert (second["seconds"], second["seconds_left"]) == (106.0, 30.0)
    assert (first["loss"], first["lr"], first["grad_norm"], first["step"]) == (1.5, 0.1, 2.0, 2)


def test_rows_up_to_the_resumed_step_are_kept(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) + "\n" for step in (4, 8, 12)]
    path.write_text("".join(lines) + '{"step": 16, "lo')
    assert rows_until(path, 8) == lines[:2]
    assert rows_until(path, 10) == lines[:2]
    assert rows_until(path, 99) == lines
    assert rows_until(path, 0) == [] == rows_until(tmp_path / "none", 8)


@pytest.mark.parametrize(
    "bad", [b"junk", b'{"step": 8, "lo', b"\xff\xfe", b"[1, 2]", b'{"step": "8"}', b'{"loss": 1}', b"NaN", b""]
)
def test_a_bad_line_costs_no_other(tmp_path: Path, bad: bytes, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}).encode() for step in (4, 12)]
    path.write_bytes(b"\n".join([lines[0], bad, lines[1], b""]))
    assert rows_until(path, 12) == [line.decode() + "\n" for line in lines]
    assert f"{path}: line 2 is no row" in capsys.readouterr().out


def test_steps_that_were_written_twice_stand_once(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "i": i}) + "\n" for i, step in enumerate((4, 8, 8, 4, 12))))
    assert [json.loads(line)["i"] for line in rows_until(path, 12)] == [0, 1, 4]


@pytest.mark.parametrize("later", [5.0, 4.0])
def test_a_clock_that_stands_or_goes_back_gives_no_negative_rate(tmp_path: Path, later: float, monkeypatch: pytest.MonkeyPatch):
    clock = iter([5.0, later])
    monkeypatch.setattr("ripstop.training.monitor.time.perf_counter", lambda: next(clock))
    with monitor(tmp_path) as watched:
        watched.count(tokens=50, flops=2e8)
        watched.heartbeat(2, loss=1.5, lr=0.1, grad_norm=2.0)
    (row,) = rows(tmp_path)
    assert (row["tokens_per_second"], row["mfu"], row["seconds_left"]) == (0.0, 0.0, 0.0)


def test_what_is_done_apart_does_not_slow_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 2.0, 7.0, 9.0])
    monkeypatch.setattr("ripstop.training.monitor.time.perf_counter", lambda: next(clock))
    with monitor(tmp_path) as watched:
        watched.count(tokens=50, flops=2e8)
        with watched.apart():
            pass
        watched.heartbeat(2, loss=1.5, lr=0.1, grad_norm=2.0)
    (row,) = rows(tmp_path)
    assert (row["tokens_per_second"], row["seconds"]) == (12.5, 109.0)  # 50 tokens in 9 - 5 seconds


def test_measurements_are_columns_and_parts_of_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with monitor(tmp_path) as watched:
        watched.count(10, 1.0)
        watched.heartbeat(
            8, 0.25, 1e-3, 0.5, {"accuracy": 0.75, "distill": float("nan")}, {"loss": 0.5, "accuracy": float("nan")}
        )
    (row,) = rows(tmp_path)
    assert (row["accuracy"], row["validation_loss"], row["validation_accuracy"]) == (0.75, 0.5, None)
    assert not {"metrics", "held_out"} & row.keys()
    assert "loss 0.2500  accuracy 0.75  validation_loss 0.5  validation_accuracy nan  lr" in capsys.readouterr().out


def test_a_full_disk_is_one_sentence(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"row of step 8 cannot be written"), monitor(tmp_path) as watched:
        watched.count(10, 1.0)
        with largest_file(20):
            watched.heartbeat(8, 0.25, 1e-3, 0.5)


def test_a_folder_in_the_place_of_the_file_is_one_sentence(tmp_path: Path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(TrainingError, match=r"metrics.jsonl: cannot be written"), monitor(tmp_path):
        pass


def test_a_log_gets_one_plain_line_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with monitor(tmp_path, first_step=4, console=Console(file=io.StringIO(), force_terminal=False)) as watched:
        watched.count(10, 1.0)
        row = watched.heartbeat(8, 0.25, 1e-3, 0.5)
    out = capsys.readouterr().out
    assert out == row.line(24) + "\n" and "\x1b" not in out
    assert out.startswith("step  8/24  loss 0.2500  lr 1.00e-03") and "elapsed 0:01:40  left 0:00:00" in out


def test_a_line_tells_long_times(capsys: pytest.CaptureFixture[str]):
    row = Heartbeat(50, 2.0, 0.1, 1.0, 12345.6, 0.4567, 3_000_000_000, 3661.4, 90_000.0)
    expected = ["12,346 tokens/s", "mfu 45.7%", "3.00 GB", "elapsed 1:01:01", "left 1 day, 1:00:00"]
    assert all(part in row.line(100_000) for part in expected)


def test_a_terminal_gets_a_bar_with_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, _environ={})
    with monitor(tmp_path, first_step=4, console=console) as watched:
        watched.count(10, 1.0)
        watched.heartbeat(5, 0.25, 1e-3, 0.5)
    assert "5/24" in screen.getvalue() and "loss 0.2500" in screen.getvalue() and "left" in screen.getvalue()
    assert capsys.readouterr().out == "" and rows(tmp_path)[-1]["step"] == 5


def test_tensorboard_events_hold_the_rows(tmp_path: Path):
    trainer(tmp_path, steps=8, tensorboard=True).fit()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    read = [(event.step, event.value) for event in events.Scalars("loss")]
    assert read == [(row["step"], pytest.approx(row["loss"])) for row in rows(tmp_path)] and len(read) == 2


def test_memory_is_that_of_this_process():
    ballast = torch.ones(30_000_000)
    assert ballast.nbytes < peak_memory(CPU) < 1e12
