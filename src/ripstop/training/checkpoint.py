"""Checkpoints: written whole or not at all, named by their content, refused by name where damaged or foreign."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from ripstop.training.config import TrainingError

DIGITS = 16
"""Hex digits of the SHA-256 that a checkpoint's name carries."""


class Checkpoints:
    """The files `step-00000400-<sha256>.pt` of one run.

    Each is a plain `torch.save` file of `{"identity": ..., "step": ..., "state": ...}` that loads with
    `weights_only=True`. The digest in its name is of its bytes: whatever damages the file is found before it is read.
    """

    def __init__(self, folder: Path, identity: dict[str, str], keep: int):
        """identity: what must be equal for a checkpoint to be resumed, such as digests of configuration and code."""
        self.folder = folder
        self.identity = identity
        self.keep = keep
        self._good: list[Path] = []

    @property
    def last(self) -> Path | None:
        """The newest checkpoint that this process has read or written."""
        return self._good[-1] if self._good else None

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the checkpoint of `step`, then remove all but the newest `keep`, foreign and damaged ones too.

        `TrainingError` where the disk does not take it; what was there before is then left as it was.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".step-{step:08d}.tmp"
        try:
            digest = _write(temporary, {"identity": self.identity, "step": step, "state": state})
            path = self.folder / f"step-{step:08d}-{digest[:DIGITS]}.pt"
            os.replace(temporary, path)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({error.strerror}); "
                f"{f'{self.last.name} is intact' if self.last else 'there is none before it'}: "
                "free some space and start the same command again"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._good = [p for p in self._good if _step(p) < step] + [path]
        self._good = self._good[-self.keep :]
        for other in self._files():
            if other not in self._good:
                other.unlink()
        return path

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Step and state of the newest checkpoint that is whole and of this identity; None where there is none.

        Says for each newer one why it is not used.
        """
        for leftover in self.folder.glob(".step-*.tmp"):
            leftover.unlink()
        files = self._files()
        while files:
            path = files.pop()
            if _digest(path) != path.stem.rpartition("-")[2]:
                print(f"{path}: damaged, its content does not match the digest in its name; not used", flush=True)
                continue
            content = torch.load(path, map_location="cpu", weights_only=True)
            differ = [k for k, v in self.identity.items() if content["identity"].get(k) != v]
            if differ:
                print(f"{path}: made with another {' and '.join(differ)}; not resumed", flush=True)
                continue
            self._good = [*files, path]
            return content["step"], content["state"]
        return None

    def clear(self) -> None:
        """Remove all of them, and the folder where nothing else lies in it."""
        for path in [*self._files(), *self.folder.glob(".step-*.tmp")]:
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step-*.pt"), key=lambda path: (_step(path), path.stat().st_mtime_ns))


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


def _step(path: Path) -> int:
    return int(path.name.split("-")[1].partition(".")[0])
