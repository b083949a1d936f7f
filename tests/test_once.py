"""workflow/scripts/once: what a command made is taken where it ran on the same inputs before."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ONCE = Path(__file__).parents[1] / "workflow/scripts/once"
COMMAND = 'echo ran >> log; mkdir -p out/parts; cat in > "out/a model"; cat in > out/parts/records; [ ! -e fail ]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").write_text("1\n")
    return tmp_path


def once(folder: Path, command: str = COMMAND, status: int = 0, job: str = "1") -> int:
    """How often the command has run. Snakemake removes the outputs of a job before it begins."""
    outputs = ["out/a model", "out/parts"]
    shutil.rmtree(folder / "out", ignore_errors=True)
    line = [ONCE, "in", "--", *outputs, "--", "sh", "-c", command]
    done = subprocess.run(line, cwd=folder, env=os.environ | {"SLURM_JOB_ID": job}, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return (folder / "log").read_text().count("ran")


def test_what_was_made_comes_back(folder: Path) -> None:
    assert once(folder) == 1
    before = (folder / "out/a model").stat()
    assert once(folder) == 1
    after = (folder / "out/a model").stat()
    assert after.st_ino == before.st_ino and after.st_mtime_ns > before.st_mtime_ns, "newer than every input"
    assert (folder / "out/parts/records").read_text() == "1\n"


def test_other_inputs_and_other_commands_run(folder: Path) -> None:
    assert once(folder) == 1
    (folder / "in").write_text("2\n")
    assert once(folder) == 2
    assert (folder / "out/parts/records").read_text() == "2\n"
    assert once(folder, COMMAND + " # other") == 3
    (folder / "in").write_text("1\n")
    assert once(folder) == 3
    assert (folder / "out/parts/records").read_text() == "1\n"


def test_without_slurm_it_runs_and_nothing_is_kept(folder: Path) -> None:
    assert once(folder, job="") == 1
    assert once(folder, job="") == 2
    assert not (folder / ".snakemake").exists()


def test_what_failed_is_not_kept(folder: Path) -> None:
    (folder / "fail").touch()
    assert once(folder, status=1) == 1
    (folder / "fail").unlink()
    assert once(folder) == 2
    assert once(folder) == 2


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGXCPU"])
def test_a_signal_is_the_command_s_business_and_what_it_then_made_is_kept(folder: Path, name: str) -> None:
    """As when all processes of a job are warned: a training that saves what it has is waited for."""
    command = f"touch begun; while [ ! -e go ]; do sleep 0.01; done; {COMMAND}"
    line = [ONCE, "in", "--", "out/a model", "out/parts", "--", "sh", "-c", command]
    process = subprocess.Popen(line, cwd=folder, env=os.environ | {"SLURM_JOB_ID": "1"})
    while not (folder / "begun").exists():
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    time.sleep(0.1)
    (folder / "go").touch()
    assert process.wait(60) == 0
    assert once(folder, command) == 1


def test_a_file_that_a_folder_among_the_inputs_has_is_an_input(folder: Path) -> None:
    (folder / "in").unlink()
    (folder / "in").mkdir()
    (folder / "in/one").write_text("1\n")
    command = "echo ran >> log; mkdir -p out/parts; touch 'out/a model'; cat in/* > out/parts/records"
    assert once(folder, command) == 1
    (folder / "in/two").write_text("2\n")
    assert once(folder, command) == 2


@pytest.mark.parametrize("arguments", ["", "in out sh", "in -- out sh", "in -- out --", "in -- -- true", "-- out -- true"])
def test_what_is_missing_is_told_and_nothing_runs(folder: Path, arguments: str) -> None:
    done = subprocess.run(
        [ONCE, *arguments.split()], cwd=folder, env=os.environ | {"SLURM_JOB_ID": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: once takes ") and done.stderr.count("\n") == 1
    assert not (folder / ".snakemake").exists()
