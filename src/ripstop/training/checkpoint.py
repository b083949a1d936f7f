"""Checkpoints: written whole or not at all, named by their content, refused by name where damaged or foreign."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from ripstop import provenance
from ripstop.config import TrainingError

MOVES_NO_NUMBER = "keeps the state of a training, which resumes to the same bits"

DIGITS = 16
"""Hex digits of the SHA-256 that a checkpoint's name carries."""
NAME = re.compile(rf"step-(\d+)-([0-9a-f]{{{DIGITS}}})\.pt")
OTHER = "other-"


class Checkpoints:
    """The files `step-00000400-<sha256>.pt` of one training.

    Each is a plain `torch.save` file of `{"identity": ..., "settings": ..., "step": ..., "state": ...}` that loads with
    `weights_only=True`. The digest in its name is of its bytes: whatever damages the file is found before it is read.

    What another training left here (other settings, code, data or frozen base) is neither resumed nor deleted: it moves
    to the folder `other-<digest of its identity>`, and comes back when that training is started again.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, str], keep: int, settings: Mapping[str, Any] | None = None,
        companions: Sequence[Path] = (),
    ):  # fmt: skip
        """identity: what must be equal for a checkpoint to be resumed, such as digests of configuration and code.
        settings: what the configuration says, by key, to tell where two differ. companions: files that belong to the
        training whose checkpoints lie here, and go where those go.
        """
        self.folder = folder
        self.identity = dict(identity)
        self.keep = keep
        self.settings = dict(settings or {})
        self.companions = companions
        self._good: list[Path] = []

    @property
    def last(self) -> Path | None:
        """The newest checkpoint that this process has read or written."""
        return self._good[-1] if self._good else None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the checkpoint of `step`, then remove all but the newest `keep`, damaged ones too.

        `TrainingError` where the disk does not take it; what was there before is then left as it was.
        """
        temporary = self.folder / f".step-{step:08d}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {"identity": self.identity, "settings": self.settings, "step": step, "state": state}
            digest = _write(temporary, content)
            path = self.folder / f"step-{step:08d}-{digest[:DIGITS]}.pt"
            os.replace(temporary, path)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({error.strerror}); "
                f"{f'{self.last.name} is intact' if self.last else 'there is none before it'}: "
                "free some space and start the same command again"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._good = [p for p in self._good if _step(p) < step] + [path]
        self._good = self._good[-self.keep :]
        for other in _files(self.folder):
            if other not in self._good:
                _remove(other)
        return path

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest checkpoint that is whole and of this training; None where there is none.

        Says for each newer one why it is not used, and by which key another training differs.
        """
        for leftover in self.folder.glob(".step-*.tmp"):
            _remove(leftover)
        found = self._newest()
        aside = self._aside(self.identity)
        if found is None and _files(aside):
            self._move(_files(aside), aside, self.folder)
            print(f"{aside}: left by this training, which goes on", flush=True)
            found = self._newest()
        if found is None:
            return None
        path, content = found
        files = _files(self.folder)
        self._good = files[: files.index(path) + 1]
        return content["step"], content["state"]

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
            content = _read(path)
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
            os.replace(path, target / path.name)
        for path in _files(target)[: -self.keep]:
            _remove(path)
        if source != self.folder and not any(source.iterdir()):
            source.rmdir()


class _Digesting:
    """A file that digests what is written to it, and keeps the error that torch's writer would hide behind its own."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            written = self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self.sha256.update(data)
        return written

    def flush(self) -> None:
        self.file.flush()


def _write(path: Path, content: dict[str, Any]) -> str:
    """Write and digest; on the disk, not only in its cache, when this returns."""
    with open(path, "wb") as file:
        sink = _Digesting(file)
        try:
            torch.save(content, cast(BinaryIO, sink))
        except RuntimeError as error:
            if sink.error is not None:
                raise sink.error from error
            raise
        file.flush()
        os.fsync(file.fileno())
    return sink.sha256.hexdigest()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def _read(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds; None, and a sentence, where it cannot be used."""
    try:
        if _digest(path) != path.stem.rpartition("-")[2]:
            print(f"{path}: damaged, its content does not match the digest in its name; not used", flush=True)
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise a dozen kinds for a file that is none of theirs
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(f"{path}: cannot be read ({reason}); not used", flush=True)
        return None
    if not _is_checkpoint(content):
        print(f"{path}: not a checkpoint of a training; not used", flush=True)
        return None
    return content


def _is_checkpoint(content: Any) -> bool:
    kinds = {"identity": dict, "settings": dict, "step": int, "state": dict}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        return False
    return all(isinstance(text, str) for item in content["identity"].items() for text in item)


def _files(folder: Path) -> list[Path]:
    """Checkpoints by their names, oldest first; whatever else lies there is left alone."""
    found = [path for path in folder.glob("step-*.pt") if NAME.fullmatch(path.name) and path.is_file()]
    return sorted(found, key=lambda path: (_step(path), path.stat().st_mtime_ns))


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be removed ({error.strerror}); remove it and start again") from error
