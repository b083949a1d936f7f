"""Writers that are killed: what lies there is the old or the new, whole, and the next write leaves nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults import commands, writers


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", writers.WRITERS)
def test_kill_9_at_lines_of_the_writer(kind: str, every: int, tmp_path: Path) -> None:
    assert commands.child(writers.kill_at_lines, kind, tmp_path, every) == 0


@pytest.mark.parametrize("kind", writers.WRITERS)
def test_killed_in_the_middle_of_a_file(kind: str, tmp_path: Path) -> None:
    assert commands.child(writers.kill_at_bytes, kind, tmp_path) == 0
