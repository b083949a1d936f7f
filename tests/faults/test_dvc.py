"""Objects of DVC that were lost or damaged on their way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with results in a remote whose objects are held against their digests, and none here."""
    folder = tmp_path / "clone"
    (folder / "results").mkdir(parents=True)
    (tmp_path / "remote").mkdir()
    for name in ("one", "two"):
        (folder / "results" / name).write_text(name, encoding="utf-8")
    remote = ("remote add --default there ../remote", "remote modify there verify true")
    for command in ("init --no-scm", *remote, "add results", "push"):
        assert dvc(folder, *command.split()).returncode == 0
    for path in sorted((folder / ".dvc/cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for path in (folder / "results").iterdir():
        path.unlink()
    (folder / "results").rmdir()
    return folder


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    there = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True)


def cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_an_object_that_was_lost_or_cut_in_the_remote_is_refused(damage: Callable[[Path], object], clone: Path) -> None:
    """As by a copy of a cache that was stopped half way: nothing is restored that is not what was pushed."""
    (path,) = [path for path in (clone.parent / "remote").rglob("*") if path.is_file() and path.read_bytes() == b"one"]
    damage(path)
    done = dvc(clone, "pull")
    assert done.returncode and "failed to pull" in done.stderr and "Traceback" not in done.stderr
    assert not (clone / "results/one").exists()
