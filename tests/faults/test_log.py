"""The log of a job on a disk that does not take it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from faults.conftest import ROOT, Disk

LOGGED = ROOT / "workflow/scripts/logged"


def logged(log: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(LOGGED), str(log), "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_log_that_cannot_be_written_costs_no_command(disk: Disk, tmp_path: Path) -> None:
    """It goes on to its end, what it says is seen, and its exit status is kept."""
    disk.mount(f"size={disk.used + 4096}")
    (disk.place / "ballast").write_bytes(bytes(4096))
    done = logged(disk.place / "job.log", f"echo begun; echo goes on; touch {tmp_path}/end; exit 3")
    assert done.returncode == 3 and (tmp_path / "end").exists()
    assert "begun" in done.stdout and "goes on" in done.stdout and not done.stderr


def test_a_log_on_a_read_only_disk_is_told(disk: Disk, tmp_path: Path) -> None:
    disk.mount("ro")
    done = logged(disk.place / "job.log", f"echo begun; sleep 1; touch {tmp_path}/end")
    assert done.returncode and f"{disk.place}/job.log: Read-only file system" in done.stderr
    assert "begun" not in done.stdout


@pytest.mark.parametrize("arguments", [[], ["job.log"], ["", "true"]])
def test_a_log_without_a_command_or_a_name_is_told(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run([str(LOGGED), *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "error: logged takes a log and a command: logged LOG COMMAND...\n"
    assert not list(tmp_path.iterdir())
