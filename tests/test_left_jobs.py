"""Jobs that a killed execution left: this folder's, by their name, and nobody else's; cancelled, and waited for.

The queue is a file that stands in for Slurm's; `tests/slurm/test_storm.py` does it with a real one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ripstop import left_jobs
from ripstop.config import ConfigError

OURS = "8d1c63b8-54d3-4a2e-9d3c-0f6a7e2b1c55"


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `squeue` prints; `scancel` notes what it was given, and empties it where a file `ends` says so."""
    commands = {
        "squeue": 'cat "$HOME/queue"',
        "scancel": 'echo "$@" >> "$HOME/cancelled"; [ ! -e "$HOME/ends" ] || : > "$HOME/queue"',
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    return tmp_path / "queue"


def test_jobs_of_this_folder_and_of_an_execution_are_found(queue: Path) -> None:
    mine = queue.parent / "mine"
    lines = [
        f"9|{OURS}|{mine}",
        f"10|run_{OURS}|{mine}",
        f"11|{OURS}|{mine}/other",
        f"12|{OURS}|{mine.parent}",
        f"13|mail|{mine}",
    ]
    queue.write_text("\n".join([*lines, f"14|{OURS}-more|{mine}", f"9|{OURS}|{mine}"]), encoding="utf-8")
    assert left_jobs.jobs(mine) == ["9", "10"]
    assert left_jobs.jobs(queue.parent / "bin") == []


def test_a_folder_with_any_name_is_found_behind_a_link_too(queue: Path) -> None:
    odd = queue.parent / "mi|ne and more"
    odd.mkdir()
    (queue.parent / "link").symlink_to(odd)
    queue.write_text(f"9|{OURS}|{odd}", encoding="utf-8")
    assert left_jobs.jobs(odd) == left_jobs.jobs(queue.parent / "link") == ["9"]


def test_they_are_cancelled_by_name_and_waited_for(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue.write_text(f"9|{OURS}|{queue.parent}/mine\n11|{OURS}|/elsewhere\n", encoding="utf-8")
    (queue.parent / "ends").touch()
    left_jobs.cancel(queue.parent / "mine")
    assert (queue.parent / "cancelled").read_text(encoding="utf-8") == "9\n"
    assert capsys.readouterr().out.endswith("done again from where they were: 9\n")


def test_those_that_do_not_end_are_told(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.write_text(f"9|{OURS}|{queue.parent}/mine\n", encoding="utf-8")
    monkeypatch.setattr(left_jobs, "PATIENCE", 0.0)
    with pytest.raises(
        ConfigError, match=r"^Slurm: jobs of an execution .* have not ended 0 s .*: 9; see what `scontrol show job`"
    ):
        left_jobs.cancel(queue.parent / "mine")


def refuses(queue: Path) -> None:
    """From now on `squeue` fails."""
    told = "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1"
    (queue.parent / "bin/squeue").write_text(f"#!/bin/sh\n{told}\n", encoding="utf-8")


def test_a_slurm_that_does_not_answer_has_no_empty_queue(queue: Path) -> None:
    mine = queue.parent / "mine"
    refuses(queue)
    left_jobs.cancel(mine)  # which never submitted anything: there is no Slurm behind this command
    (mine / "results/cpu/logs/slurm").mkdir(parents=True)
    with pytest.raises(
        ConfigError,
        match=r"^squeue: Unable to contact slurm controller, and jobs whose logs are in \S+/cpu/logs/slurm may be left; ",
    ):
        left_jobs.cancel(mine)


def test_jobs_are_waited_for_while_slurm_does_not_answer(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.write_text(f"9|{OURS}|{queue.parent}/mine\n", encoding="utf-8")
    looks: list[float] = []

    def passes(seconds: float) -> None:
        looks.append(seconds)
        (queue.parent / "bin/squeue").write_text("#!/bin/sh\n", encoding="utf-8")

    run = subprocess.run

    def then_refuses(command: list[str], **how: Any) -> Any:
        done = run(command, **how)
        if command[0] == "scancel":
            refuses(queue)
        return done

    monkeypatch.setattr(left_jobs.subprocess, "run", then_refuses)
    monkeypatch.setattr(left_jobs.time, "sleep", passes)
    left_jobs.cancel(queue.parent / "mine")
    assert len(looks) == 1, "until it answers again"


def test_where_none_is_left_nothing_is_cancelled_or_said(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue.write_text("", encoding="utf-8")
    left_jobs.cancel(queue.parent / "mine")
    assert not (queue.parent / "cancelled").exists() and not capsys.readouterr().out


def test_without_slurm_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert left_jobs.jobs(tmp_path) == []
