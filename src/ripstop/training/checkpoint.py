"""Checkpoints: written whole or not at all, named by their content, refused by name where damaged or foreign."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ripstop import provenance
from ripstop.config import TrainingError
from ripstop.files import sync
from ripstop.training import checkpoint_file
from ripstop.training.checkpoint_file import DIGITS
from ripstop.training.distributed import checkpoint_folder
from ripstop.training.distributed.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from ripstop.training.distributed.strategy import Layout

MOVES_NO_NUMBER = "keeps the state of a training, which resumes to the same bits"

NAME = re.compile(rf"step-(\d+)-([0-9a-f]{{{DIGITS}}})(\.pt)?")
OTHER = "other-"


class Checkpoints:
    """The files `step-00000400-<sha256>.pt` of one training, or the folders `step-00000400-<sha256>` of several processes.

    A file is a plain `torch.save` file of `{"identity": ..., "settings": ..., "step": ..., "state": ...}` that loads with
    `weights_only=True`. The digest in its name is of its bytes: whatever damages the file is found before it is read. A folder
    (`checkpoint_folder`) holds the same in parts, and the digests of all its files. Any number of processes reads both.

    What another training left here (other settings, code, data or frozen base) is neither resumed nor deleted: it moves
    to the folder `other-<digest of its identity>`, and comes back when that training is started again.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, str], keep: int, settings: Mapping[str, Any] | None = None,
        companions: Sequence[Path] = (), ranks: Ranks = ALONE,
    ):  # fmt: skip
        """identity: what must be equal for a checkpoint to be resumed, such as digests of configuration and code.
        settings: what the configuration says, by key, to tell where two differ. companions: files that belong to the
        training whose checkpoints lie here, and go where those go. ranks: the processes that save and load together; the
        first one decides what is resumed, moved and removed.
        """
        self.folder = folder
        self.identity = dict(identity)
        self.keep = keep
        self.settings = dict(settings or {})
        self.companions = companions
        self.ranks = ranks
        self._good: list[Path] = []

    @property
    def last(self) -> Path | None:
        """The newest checkpoint that this process has read or written."""
        return self._good[-1] if self._good else None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the checkpoint of `step`, then remove all but the newest `keep`, damaged ones too.

        It is on the disk before an older one goes, and what stands in its companions is there before it. `TrainingError` where
        the disk does not take it; what was there before is then left as it was.
        """
        temporary = self.folder / f".step-{step:08d}.tmp"
        content = {"identity": self.identity, "settings": self.settings, "step": step, "state": state}
        try:
            self.ranks.once(lambda: self.folder.mkdir(parents=True, exist_ok=True))
            if self.ranks.alone:
                path = self.folder / f"step-{step:08d}-{checkpoint_file.write(temporary, content)[:DIGITS]}.pt"
            else:
                digest = checkpoint_folder.write(temporary, content, self.ranks)
                path = self.folder / f"step-{step:08d}-{digest[:DIGITS]}"
            self.ranks.once(lambda: self._take_place(temporary, path))
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({error.strerror}); "
                f"{f'{self.last.name} is intact' if self.last else 'there is none before it'}: "
                "free some space and start the same command again"
            ) from error
        finally:
            if self.ranks.first:
                with contextlib.suppress(OSError):
                    _delete(temporary)
        self._good = [p for p in self._good if _step(p) < step] + [path]
        self._good = self._good[-self.keep :]
        if self.ranks.first:
            for other in _files(self.folder):
                if other not in self._good:
                    _remove(other)
        return path

    def _take_place(self, temporary: Path, path: Path) -> None:
        for companion in self.companions:
            if companion.is_file():
                sync(companion)
        _replace(temporary, path)
        sync(self.folder)

    def load(self, layout: Layout | None = None) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest checkpoint that is whole and of this training; None where there is none.

        Says for each newer one why it is not used, and by which key another training differs.
        layout: how this process holds a folder's tensors; None: whole.
        """
        found: dict[Path, dict[str, Any]] = {}
        path = self.ranks.once(lambda: self._find(found))
        if path is None:
            return None
        files = _files(self.folder)
        self._good = files[: files.index(path) + 1]
        content = found[path] if path in found else _reread(path)
        if path.is_dir():
            content = checkpoint_folder.filled(content, path, layout, self.ranks)
        return content["step"], content["state"]

    def _find(self, found: dict[Path, dict[str, Any]]) -> Path | None:
        """The newest checkpoint that is whole and of this training, and in `found` what it holds."""
        for leftover in self.folder.glob(".step-*.tmp"):
            _remove(leftover)
        newest = self._newest()
        aside = self._aside(self.identity)
        if newest is None and _files(aside):
            self._move(_files(aside), aside, self.folder)
            print(f"{aside}: left by this training, which goes on", flush=True)
            newest = self._newest()
        if newest is None:
            return None
        path, found[path] = newest
        return path

    def clear(self) -> None:
        """Remove those of this training, and the folder where nothing else lies in it."""
        for path in [*_files(self.folder), *self.folder.glob(".step-*.tmp")]:
            _remove(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def others(self) -> list[Path]:
        """Folders of checkpoints that other trainings left."""
        return sorted(path for path in self.folder.glob(f"{OTHER}*") if path.is_dir())

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint here that is whole and of this training, and what it holds; those of others move aside."""
        for path in reversed(_files(self.folder)):
            content = checkpoint_folder.read(path) if path.is_dir() else checkpoint_file.read(path)
            if content is None:
                continue
            if content["identity"] == self.identity:
                return path, content
            aside = self._aside(content["identity"])
            print(f"{path}: made with another {self._difference(content)}; not resumed, kept in {aside}", flush=True)
            self._move([path], self.folder, aside)
        return None

    def _difference(self, content: dict[str, Any]) -> str:
        theirs = content["identity"]
        keys = [key for key in [*self.identity, *theirs] if theirs.get(key) != self.identity.get(key)]
        before, now = content["settings"], self.settings
        moved = [key for key in dict.fromkeys([*now, *before]) if before.get(key) != now.get(key)]
        values = [f"{key} was {before.get(key, 'not there')} and is {now.get(key, 'not there')}" for key in moved]
        named = " and another ".join(dict.fromkeys(keys)).replace("_", " ")
        return f"{named} ({'; '.join(values[:4])}{', ...' if len(values) > 4 else ''})" if values else named

    def _aside(self, identity: Mapping[str, str]) -> Path:
        text = "\n".join(f"{key} {identity[key]}" for key in sorted(identity))
        return self.folder / f"{OTHER}{provenance.digest(text)}"

    def _move(self, files: list[Path], source: Path, target: Path) -> None:
        """Checkpoints, and what belongs to them, from one folder to another; the newest `keep` stay there."""
        target.mkdir(parents=True, exist_ok=True)
        for home in self.companions:  # first: after a kill between the two, the checkpoints still say where all belongs
            here, there = (home, target / home.name) if source == self.folder else (source / home.name, home)
            if here.is_file():
                os.replace(here, there)
        for path in files:
            _replace(path, target / path.name)
        for path in _files(target)[: -self.keep]:
            _remove(path)
        if source != self.folder and not any(source.iterdir()):
            source.rmdir()


def _files(folder: Path) -> list[Path]:
    """Checkpoints by their names, oldest first; whatever else lies there is left alone."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name) and path.suffix == _suffix(path)]
    return sorted(found, key=lambda path: (_step(path), path.stat().st_mtime_ns))


def _suffix(path: Path) -> str | None:
    """What the name of such a checkpoint ends in."""
    return ".pt" if path.is_file() else "" if path.is_dir() else None


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _reread(path: Path) -> dict[str, Any]:
    """What a checkpoint holds that another rank has found to be whole."""
    if path.is_dir():
        return checkpoint_folder.header(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():  # a damaged folder of that name: none takes the place of another that holds something
        _delete(target)
    os.replace(source, target)


def _delete(path: Path) -> None:
    """A folder disappears from its name at once: what a kill leaves of it is no checkpoint that is damaged."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.name.startswith("."):
        path = path.rename(path.with_name(f".{path.name}.tmp"))
    shutil.rmtree(path)


def _remove(path: Path) -> None:
    try:
        _delete(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be removed ({error.strerror}); remove it and start again") from error
