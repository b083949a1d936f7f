"""Rank 0 prepares, the others wait: with real processes, which fail and are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ripstop.config import ConfigError, TrainingError
from ripstop.first_rank import await_rank_0, preparing, rank
from ripstop.training.distributed.telling import OtherRankError

FORK = multiprocessing.get_context("fork")


def prepare(folder: Path, seconds: float, writes: bool) -> None:
    """Rank 0: it takes `seconds`, and may end without having written."""
    with preparing(folder / "lock"):
        (folder / "began").touch()
        time.sleep(seconds)
        if writes:
            (folder / "ready").touch()


def wait(folder: Path, patience: float = 30.0) -> None:
    await_rank_0((folder / "ready").is_file, folder / "lock", "the run", patience)


def begun(folder: Path, seconds: float, writes: bool = True) -> multiprocessing.context.ForkProcess:
    process = FORK.Process(target=prepare, args=(folder, seconds, writes))
    process.start()
    deadline = time.monotonic() + 20
    while not (folder / "began").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_what_is_ready_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    wait(tmp_path, patience=0)
    assert not (tmp_path / "lock").exists()


def test_others_go_on_when_all_is_ready(tmp_path: Path) -> None:
    process = begun(tmp_path, 0.6)
    assert not (tmp_path / "ready").exists()
    wait(tmp_path)
    assert (tmp_path / "ready").exists()
    process.join()
    assert not (tmp_path / "lock").exists()


def test_a_rank_0_that_fails_ends_the_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = begun(tmp_path, 0.6, writes=False)
    with pytest.raises(OtherRankError):
        wait(tmp_path)
    process.join()
    assert capsys.readouterr().err.startswith("error: rank 0 ended before the run was ready, and did not say why; start")


def test_a_rank_0_that_is_killed_ends_the_waiting(tmp_path: Path) -> None:
    process = begun(tmp_path, 60)
    waiting = FORK.Process(target=wait, args=(tmp_path,))
    waiting.start()
    time.sleep(0.6)
    assert process.pid is not None and waiting.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    waiting.join(10)
    assert waiting.exitcode == 1  # its error, and not the end of our patience
    assert (tmp_path / "lock").exists()  # left by the dead, and in nobody's way:
    (tmp_path / "began").unlink()
    again = begun(tmp_path, 0)
    wait(tmp_path)
    again.join()


def test_a_rank_0_that_never_begins_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the run: rank 0 has not begun to prepare it within 0 s"):
        wait(tmp_path, patience=0.3)


def test_one_prepares_at_a_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second waits although the first removes the file that both have opened."""
    first = begun(tmp_path, 0.8)
    (tmp_path / "began").unlink()
    second = FORK.Process(target=prepare, args=(tmp_path, 0, True))
    second.start()
    time.sleep(0.4)
    assert not (tmp_path / "began").exists() and second.is_alive()
    first.join()
    second.join()
    assert (tmp_path / "began").exists() and second.exitcode == 0 and not (tmp_path / "lock").exists()
    assert capfd.readouterr().out == f"{tmp_path}: another process prepares there, and is waited for\n"


def test_the_rank_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert rank() == 0
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert rank() == 0  # a launcher of one
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert rank() == 3
    monkeypatch.setenv("RANK", "-1")
    with pytest.raises(ConfigError, match="RANK: '-1' is no number of a rank"):
        rank()
