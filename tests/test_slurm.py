"""Where there is no Slurm the workflow says so and submits nothing; and the script that makes one loses no file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ripstop import slurm
from ripstop.config import ConfigError

CLUSTER = Path(__file__).parent / "slurm/cluster"


def command(folder: Path, name: str, text: str = "exit 0") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stand in for those of Slurm, which few machines have."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in slurm.COMMANDS:
        command(folder, name)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    return folder


def test_a_slurm_that_answers_is_fine(commands: Path) -> None:
    slurm.check()


@pytest.mark.parametrize("missing", slurm.COMMANDS)
def test_a_command_that_is_missing_is_named(commands: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("PATH", str(commands))
    (commands / missing).unlink()
    with pytest.raises(ConfigError, match=rf"^{missing}: no such command here; start this where Slurm is"):
        slurm.check()


def test_what_a_controller_that_is_down_says_is_told(commands: Path) -> None:
    command(commands, "squeue", "echo a first line >&2; echo 'squeue: error: Unable to contact controller' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"^squeue: Unable to contact controller; see what `scontrol ping` says, or start"):
        slurm.check()


def test_one_that_never_answers_is_not_waited_for(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(commands, "squeue", "exec sleep 60")
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    with pytest.raises(ConfigError, match="no answer within 0.2 s"):
        slurm.check()


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        ("down", {"MINI_SLURM_DIR": "."}, "holds something else than a cluster of this script, and would be removed"),
        ("up", {"MINI_SLURM_DIR": "."}, "holds something else than a cluster of this script"),
        ("up", {"MINI_SLURM_CPUS": "0"}, "MINI_SLURM_CPUS: is '0', and no number above 0; correct or unset it"),
        ("up", {"MINI_SLURM_MEM_MB": "8 GB"}, "MINI_SLURM_MEM_MB: is '8 GB'"),
        ("up", {"MINI_SLURM_PORT": "65530"}, "MINI_SLURM_PORT: is 65530, the first of twenty ports below 65536"),
        ("up nobody", {}, "up: there is no process 'nobody'"),
        ("status", {}, "there is no cluster here; "),
        ("kill", {}, "kill: there is no node ''; there is: n1 n2 n3"),
        ("kill n", {}, "kill: there is no node 'n'; there is: n1 n2 n3"),
        ("kill n1", {}, "there is no cluster here; "),
    ],
)
def test_a_cluster_that_cannot_be_is_told_and_nothing_is_lost(
    tmp_path: Path, arguments: str, variables: dict[str, str], told: str
) -> None:
    """Also where the folder for it is one of the user's, which `down` would remove."""
    mine = tmp_path / "mine"
    mine.write_text("mine", encoding="utf-8")
    there = os.environ | {"MINI_SLURM_DIR": str(tmp_path / "cluster")} | variables
    done = subprocess.run([CLUSTER, *arguments.split()], cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and told in done.stderr
    assert done.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == [mine]
