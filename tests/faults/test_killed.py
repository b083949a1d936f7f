"""Writers that are killed: what lies there is the old or the new, whole, and the next write leaves nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from faults import commands, writers

from ripstop.training.checkpoint import Checkpoints


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", writers.WRITERS)
def test_kill_9_at_lines_of_the_writer(kind: str, every: int, tmp_path: Path) -> None:
    assert commands.child(writers.kill_at_lines, kind, tmp_path, every) == 0


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_killed_in_the_middle_of_a_file(kind: str, tmp_path: Path) -> None:
    assert commands.child(writers.kill_at_bytes, kind, tmp_path) == 0


def test_a_checkpoint_is_on_the_disk_before_an_older_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the rows of the steps before it are there before it is. The order of system calls, which no test without a power cut
    can see otherwise."""
    rows = tmp_path / "metrics.jsonl"
    rows.write_text("{}\n", encoding="utf-8")
    checkpoints = Checkpoints(tmp_path / "checkpoints", {"code": "c0de"}, keep=1, companions=[rows])
    older = checkpoints.save(1, {})
    told: list[str] = []
    fsync, replace, unlink = os.fsync, os.replace, Path.unlink

    def syncing(handle: int) -> None:
        told.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).relative_to(tmp_path)}")
        fsync(handle)

    def replacing(source: Path, target: Path) -> None:
        told.append(f"rename to {Path(target).name}")
        replace(source, target)

    def unlinking(self: Path, **options: Any) -> None:
        if self.exists():
            told.append(f"remove {self.name}")
        unlink(self, **options)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(Path, "unlink", unlinking)
    newer = checkpoints.save(2, {})
    temporary = "checkpoints/.step-00000002.tmp"
    wanted = [f"sync {temporary}", "sync metrics.jsonl", f"rename to {newer.name}", "sync checkpoints", f"remove {older.name}"]
    assert told == wanted
