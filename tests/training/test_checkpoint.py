"""Checkpoints survive what happens to files, and say so."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ripstop.config import TrainingError
from ripstop.training.checkpoint import Checkpoints

IDENTITY = {"configuration": "aa", "code": "bb"}


def state(value: float) -> dict:
    return {"weights": torch.full((1000,), value), "nothing": None, "nested": [(1, 2.5), {"key": 2**90}]}


def checkpoints(folder: Path, keep: int = 2, **identity: str) -> Checkpoints:
    return Checkpoints(folder, IDENTITY | identity, keep)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk, writes beyond `size` bytes of a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_round_trip_keeps_every_bit(tmp_path: Path):
    saved = state(1 / 3)
    checkpoints(tmp_path).save(400, saved)
    step, loaded = checkpoints(tmp_path).load()
    assert step == 400
    assert torch.equal(loaded.pop("weights"), saved.pop("weights")) and loaded == saved


def test_the_newest_are_kept(tmp_path: Path):
    kept = checkpoints(tmp_path, keep=2)
    for step in (9, 10, 11, 100):
        kept.save(step, state(step))
    assert [int(p.name.split("-")[1]) for p in sorted(tmp_path.iterdir())] == [11, 100]
    kept.clear()
    assert not tmp_path.exists()


def test_nothing_there_is_a_fresh_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert checkpoints(tmp_path / "none").load() is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", ["truncated", "emptied", "one bit", "appended"])
def test_a_damaged_one_is_refused_by_name_and_the_previous_one_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
):
    kept = checkpoints(tmp_path)
    kept.save(5, state(5))
    path = kept.save(10, state(10))
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 16
    damaged = {"truncated": content[: len(content) // 2], "emptied": b"", "one bit": content}
    path.write_bytes(damaged.get(damage, path.read_bytes() + b"\0"))
    again = checkpoints(tmp_path)
    step, loaded = again.load()
    assert step == 5 and torch.equal(loaded["weights"], state(5)["weights"])
    (line,) = capsys.readouterr().out.splitlines()
    assert str(path) in line and "damaged" in line
    again.save(10, state(10))
    assert len(list(tmp_path.iterdir())) == 2 and checkpoints(tmp_path).load()[0] == 10  # the damaged one is gone


def test_all_damaged_is_a_fresh_start(tmp_path: Path):
    checkpoints(tmp_path).save(5, state(5)).write_bytes(b"PK")
    assert checkpoints(tmp_path).load() is None


@pytest.mark.parametrize("key", IDENTITY)
def test_one_of_another_identity_is_not_resumed(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]):
    foreign = checkpoints(tmp_path, **{key: "other"})
    for step in (100, 200):
        path = foreign.save(step, state(step))
    mine = checkpoints(tmp_path)
    assert mine.load() is None
    out = capsys.readouterr().out
    assert f"{path}: made with another {key}; not resumed" in out
    mine.save(10, state(10))
    assert [p.name[:13] for p in tmp_path.iterdir()] == ["step-00000010"]  # theirs would otherwise outlive it
    assert checkpoints(tmp_path).load()[0] == 10


def test_a_full_disk_leaves_the_previous_one_and_nothing_else(tmp_path: Path):
    kept = checkpoints(tmp_path)
    path = kept.save(5, state(5))
    before = path.read_bytes()
    for size in (0, 1, 600, len(before) // 2, len(before) - 1):
        with largest_file(size), pytest.raises(TrainingError) as raised:
            kept.save(10, state(10))
        sentence = str(raised.value)
        assert "step 10 cannot be written (File too large)" in sentence and f"{path.name} is intact" in sentence
        assert "\n" not in sentence
        assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path):
    kept = checkpoints(tmp_path)
    path = kept.save(5, state(5))
    (tmp_path / ".step-00000010.tmp").write_bytes(b"half")
    assert checkpoints(tmp_path).load()[0] == 5
    assert list(tmp_path.iterdir()) == [path]
