"""Checkpoints survive what happens to files, and say so."""

from __future__ import annotations

import hashlib
import random
import resource
import zipfile
from collections.abc import Callable, Iterator
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
def test_one_of_another_identity_is_set_aside(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]):
    foreign = checkpoints(tmp_path, **{key: "other"})
    for step in (100, 200):
        path = foreign.save(step, state(step))
    mine = checkpoints(tmp_path)
    assert mine.load() is None
    (aside,) = mine.others()
    assert f"{path}: made with another {key}; not resumed, kept in {aside}" in capsys.readouterr().out
    assert sorted(p.name[:13] for p in aside.iterdir()) == ["step-00000100", "step-00000200"]
    mine.save(10, state(10))
    assert checkpoints(tmp_path).load()[0] == 10
    mine.clear()
    assert list(tmp_path.iterdir()) == [aside]


def test_what_was_set_aside_comes_back_with_what_belongs_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    metrics = tmp_path / "metrics.jsonl"

    def of(rate: str) -> Checkpoints:
        identity = {"configuration": rate, "code": "bb"}
        return Checkpoints(tmp_path / "checkpoints", identity, 2, {"training.lr": rate, "seed": "1"}, companions=[metrics])

    of("0.01").save(5, state(5))
    metrics.write_text("the rows of 0.01")
    assert of("0.02").load() is None and not metrics.exists()
    out = capsys.readouterr().out
    assert "another configuration (training.lr was 0.01 and is 0.02); not resumed, kept in" in out
    of("0.02").save(7, state(7))
    metrics.write_text("the rows of 0.02")
    step, loaded = of("0.01").load()
    assert step == 5 and torch.equal(loaded["weights"], state(5)["weights"])
    assert metrics.read_text() == "the rows of 0.01"
    assert of("0.02").load()[0] == 7 and metrics.read_text() == "the rows of 0.02"
    assert of("0.02").load()[0] == 7  # and the other is still there
    assert len(of("0.02").others()) == 1


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "step-notes.pt", "step-00000009.pt", "step-00000009-0123456789abcdef.pt.bak", "other-notes"],
)
def test_foreign_files_are_left_alone(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"junk")
    (tmp_path / "step-00000008-0123456789abcdef.pt").mkdir()
    kept = checkpoints(tmp_path)
    assert kept.load() is None
    kept.save(5, state(5))
    assert checkpoints(tmp_path).load()[0] == 5
    kept.clear()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "step-00000008-0123456789abcdef.pt"])


def zip_of_something_else(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "not a checkpoint")


def other_tensors(path: Path) -> None:
    torch.save({"weights": torch.ones(3)}, path)


def a_program(path: Path) -> None:
    torch.save({"identity": {}, "settings": {}, "step": 1, "state": {"path": Path("x")}}, path)


def text(path: Path) -> None:
    path.write_text("step 9 of my training")


@pytest.mark.parametrize("write", [zip_of_something_else, other_tensors, a_program, text])
def test_whole_files_of_another_kind_are_told_and_not_used(
    tmp_path: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
):
    kept = checkpoints(tmp_path)
    kept.save(5, state(5))
    write(tmp_path / "made")
    digest = hashlib.sha256((tmp_path / "made").read_bytes()).hexdigest()[:16]
    path = (tmp_path / "made").rename(tmp_path / f"step-00000009-{digest}.pt")
    assert checkpoints(tmp_path).load()[0] == 5
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: ") and line.endswith("; not used")


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path):
    (tmp_path / "checkpoints").write_text("a file")
    kept = checkpoints(tmp_path / "checkpoints")
    assert kept.load() is None
    with pytest.raises(TrainingError, match="the checkpoint of step 5 cannot be written"):
        kept.save(5, state(5))


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
