"""A checkout with one small run, prepared, trained and measured once, and copied for each test that damages it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import commands

from ripstop import yaml_file

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tree:
    """A checkout with results. run and data: folders, as commands are told them."""

    root: Path
    run: Path
    data: Path

    @property
    def here(self) -> Path:
        """The run's folder."""
        return self.root / self.run

    def files(self) -> dict[str, bytes]:
        """Name below the checkout -> content, of every file."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def at(self, root: Path) -> Tree:
        return Tree(root, self.run, self.data)


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """With the input files of its run alone."""
    root = tmp_path_factory.mktemp("planned")
    os.environ["RIPSTOP_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    study = yaml_file.mapping(ROOT / "params.yaml")["studies"]["mqar_cliff"]
    smoke = yaml_file.mapping(ROOT / "workflow/scales/smoke.yaml")
    smoke["mqar_cliff"]["patterns"] = {"attention": "A"}
    drop = [f"patterns.{arm}" for arm in study["patterns"] if arm != "attention"]
    overlay = {"all": smoke["all"], "mqar_cliff": {"drop": drop} | smoke["mqar_cliff"]}
    (root / "workflow/scales").mkdir(parents=True)
    (root / "paper/sections").mkdir(parents=True)
    (root / "paper/sections/mqar_cliff.tex").touch()
    (root / "workflow/scales/smoke.yaml").write_text(yaml_file.dump(overlay), encoding="utf-8")
    params = {"scale": "smoke", "studies": {"mqar_cliff": study}}
    (root / "params.yaml").write_text(yaml_file.dump(params), encoding="utf-8")
    commands.work(root, "plan", "--write")
    (run,) = root.glob("results/smoke/mqar_cliff/runs/*")
    (data,) = root.glob("results/smoke/data/*")
    return Tree(root, run.relative_to(root), data.relative_to(root))


@pytest.fixture(scope="session")
def prepared(planned: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = _copied(planned, tmp_path_factory.mktemp("prepared"))
    commands.work(tree.root, "prepare", tree.data)
    return tree


@pytest.fixture(scope="session")
def measured(prepared: Tree, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Trained and evaluated, too."""
    tree = _copied(prepared, tmp_path_factory.mktemp("measured"))
    commands.work(tree.root, "train", tree.run)
    commands.work(tree.root, "evaluate", tree.run)
    return tree


@pytest.fixture
def fresh(prepared: Tree, tmp_path: Path) -> Tree:
    """A copy that is prepared, and not trained."""
    return _copied(prepared, tmp_path / "checkout")


@pytest.fixture
def done(measured: Tree, tmp_path: Path) -> Tree:
    """A copy with everything."""
    return _copied(measured, tmp_path / "checkout")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    found.mount("size=16m")
    yield found
    subprocess.run(["umount", str(found.place)], check=True)


@dataclass(frozen=True)
class Disk:
    """A small file system, in memory."""

    place: Path

    def mount(self, options: str) -> None:
        """As told: `size=64k`, `nr_inodes=10`, `ro`. What is mounted already is changed."""
        if self.place.is_mount():
            options = f"remount,{options}"
        self.place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(self.place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if "must be superuser" in done.stderr or "denied" in done.stderr:
            pytest.skip("no file system may be mounted here")
        assert done.returncode == 0, done.stderr

    @property
    def used(self) -> int:
        """Bytes."""
        state = os.statvfs(self.place)
        return (state.f_blocks - state.f_bfree) * state.f_frsize


def _copied(tree: Tree, root: Path) -> Tree:
    shutil.copytree(tree.root, root, dirs_exist_ok=True)
    return tree.at(root)
