"""Disks that are full, without inodes, read-only, broken, or elsewhere: one sentence, nothing lost, and the same command goes
on when there is room."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import stat
from pathlib import Path

import pytest
from faults import commands, injected
from faults.conftest import Disk, Tree

from ripstop.records import read_records


def on(disk: Disk, tree: Tree) -> Tree:
    """The checkout with its results on the disk, behind a link."""
    shutil.copytree(tree.root / "results", disk.place, dirs_exist_ok=True)
    shutil.rmtree(tree.root / "results")
    (tree.root / "results").symlink_to(disk.place)
    return tree


def numbers(tree: Tree) -> list[bytes]:
    """What must be equal, bit for bit, however often a training was disturbed."""
    return [(tree.here / "model.safetensors").read_bytes()]


def without(tree: Tree, *names: str) -> Tree:
    for name in names:
        path = tree.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return tree


def test_results_may_lie_on_another_file_system_behind_a_link(fresh: Tree, measured: Tree, disk: Disk) -> None:
    tree = on(disk, fresh)
    commands.work(tree.root, "train", tree.run)
    commands.work(tree.root, "evaluate", tree.run)
    assert numbers(tree) == numbers(measured) and (tree.root / "results").is_symlink()


def test_no_inode_at_any_file_of_a_training(fresh: Tree, measured: Tree, disk: Disk) -> None:
    """One more each time, until it ends well: it stops at every file that it makes, and never loses what it has."""
    tree = on(disk, fresh)
    (tree.here / "reporting.yaml").write_text("checkpoint_every: 5\nlog_every: 5\n", encoding="utf-8")
    used = int(os.statvfs(disk.place).f_files - os.statvfs(disk.place).f_ffree)
    told = []
    for more in range(40):
        disk.mount(f"nr_inodes={used + more}")
        ended = commands.run(tree.root, "train", tree.run)
        if ended.status == 0:
            break
        assert "the disk is full" in ended.sentence or "No space left on device" in ended.sentence
        told.append(ended.sentence)
    assert ended.status == 0 and numbers(tree) == numbers(measured)
    assert len(set(told)) >= 4 and any("checkpoint of step" in sentence for sentence in told)
    assert {path.name for path in tree.here.iterdir() if path.name.startswith(".")} == set()


@pytest.mark.parametrize("command", ["prepare", "evaluate", "collect", "plan"])
def test_a_full_disk_is_one_sentence_and_with_room_the_command_ends_well(command: str, done: Tree, disk: Disk) -> None:
    makes = {
        "prepare": [f"{done.data}/data.json", f"{done.data}/test.safetensors"],
        "evaluate": [f"{done.run}/parts"],
        "collect": [],
        "plan": [f"{done.run}/config.yaml", f"{done.run}/recall.yaml"],
    }
    arguments: dict[str, list[object]] = {
        "prepare": ["prepare", done.data],
        "evaluate": ["evaluate", done.run],
        "collect": ["collect", f"{done.run}/parts/recall/records.jsonl", "--out", "results/all.jsonl"],
        "plan": ["plan", "--write"],
    }
    tree = on(disk, without(done, *makes[command]))
    for free in (0, 4096):
        disk.mount(f"size={disk.used + free}")
        before = tree.files()
        ended = commands.run(tree.root, *arguments[command])
        assert any(said in ended.sentence for said in ("the disk is full", "No space left on device")), ended.sentence
        assert before.items() <= tree.files().items()
        assert not [path for path in tree.root.rglob(".*")]
    disk.mount("size=16m")
    commands.work(tree.root, *arguments[command])
    assert all((tree.root / name).exists() for name in makes[command])


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate"])
def test_results_that_are_read_only_are_one_sentence(command: str, done: Tree, disk: Disk) -> None:
    tree = on(disk, done)
    before = tree.files()
    disk.mount("ro")
    sentence = commands.run(tree.root, command, tree.data if command == "prepare" else tree.run).sentence
    assert "read-only" in sentence.lower(), sentence
    assert tree.files() == before


def test_a_disk_that_fails_to_keep_what_it_took_is_one_sentence(fresh: Tree, measured: Tree) -> None:
    """`fsync` says so, and nothing takes the place of a file that may not be there after a power cut."""
    before = fresh.files()
    sentence = commands.run(fresh.root, "prepare", fresh.data, fault=injected.failing_sync).sentence
    assert "test.safetensors: Input/output error" in sentence
    assert {f"{fresh.data}/data.json"} == before.keys() - fresh.files().keys()  # which went first, as it has to
    commands.work(fresh.root, "prepare", fresh.data)
    assert fresh.files() == before
    sentence = commands.run(fresh.root, "train", fresh.run, fault=injected.failing_sync).sentence
    assert sentence.endswith("the disk reports an error; check it before you go on")
    commands.work(fresh.root, "train", fresh.run)
    assert numbers(fresh) == numbers(measured)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("file", ["config.yaml", "training.json", "model.safetensors", "test.safetensors", "data.json"])
def test_a_file_that_cannot_be_read_to_its_end_is_named(file: str, number: int, done: Tree) -> None:
    """As on a broken disk, or on NFS when the server has lost the file."""
    (path,) = [path for path in done.root.rglob(file) if path.parent.name in (done.run.name, done.data.name)][:1]
    fault = functools.partial(injected.unreadable, str(path), number)
    sentence = commands.run(done.root, "evaluate", done.run, "--part", "recall", fault=fault).sentence
    assert file in sentence


def test_a_file_that_would_be_too_large_is_one_sentence(fresh: Tree, measured: Tree) -> None:
    limited = commands.run(fresh.root, "train", fresh.run, fault=functools.partial(injected.largest_file, 20_000))
    assert "the trained model cannot be written" in limited.sentence
    assert not list(fresh.here.glob("model*")) and not list(fresh.here.glob(".*"))
    commands.work(fresh.root, "train", fresh.run)
    assert numbers(fresh) == numbers(measured)


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o000, 0o666), (0o022, 0o644)])
def test_every_file_has_the_permissions_of_the_umask(umask: int, mode: int, planned: Tree, tmp_path: Path) -> None:
    shutil.copytree(planned.root, tmp_path / "checkout")
    tree = planned.at(tmp_path / "checkout")
    before = {path for path in tree.root.rglob("*")}
    for command, folder in (("prepare", tree.data), ("train", tree.run), ("evaluate", tree.run)):
        assert commands.run(tree.root, command, folder, fault=functools.partial(os.umask, umask)).status == 0
    made = [path for path in tree.root.rglob("*") if path not in before]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file() and "stacks" not in path.parts} == {mode}
    assert {path.name for path in made} > {"model.safetensors", "test.safetensors", "records.jsonl"}


@pytest.mark.parametrize(
    "name", ["two words", 'it\'s "quoted"', "$HOME `id` $(id)", "new\nline", "ü" * 60, "x" * 250], ids=lambda name: name[:8]
)
def test_a_checkout_may_have_any_name(name: str, fresh: Tree, measured: Tree) -> None:
    tree = fresh.at(fresh.root.rename(fresh.root.with_name(name)))
    commands.work(tree.root, "train", tree.root / tree.run)
    commands.work(tree.root, "evaluate", tree.root / tree.run, "--part", "recall")
    assert numbers(tree) == numbers(measured)
    assert read_records(tree.here / "parts/recall/records.jsonl") == read_records(measured.here / "parts/recall/records.jsonl")
