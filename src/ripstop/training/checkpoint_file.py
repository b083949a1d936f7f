"""A checkpoint of one process: a file, refused where a byte of it is not as it was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

MOVES_NO_NUMBER = "keeps the state of a training, which resumes to the same bits"

DIGITS = 16
"""Hex digits of the SHA-256 that a checkpoint's name carries."""


def write(path: Path, content: dict[str, Any]) -> str:
    """Write and digest; on the disk, not only in its cache, when this returns. The SHA-256 of its bytes, in hex."""
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


def read(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds; None, and a sentence, where it cannot be used."""
    try:
        if digest(path)[:DIGITS] != path.stem.rpartition("-")[2]:
            print(f"{path}: damaged, its content does not match the digest in its name; not used", flush=True)
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise a dozen kinds for a file that is none of theirs
        unusable(path, error)
        return None
    return checked(path, content)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unusable(path: Path, error: Exception) -> None:
    """Say why a checkpoint cannot be read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    print(f"{path}: cannot be read ({reason}); not used", flush=True)


def checked(path: Path, content: Any) -> dict[str, Any] | None:
    """`content` where it is that of a checkpoint; None, and a sentence, where it is something else."""
    if not _is_checkpoint(content):
        print(f"{path}: not a checkpoint of a training; not used", flush=True)
        return None
    return content


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


def _is_checkpoint(content: Any) -> bool:
    kinds = {"identity": dict, "settings": dict, "step": int, "state": dict}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        return False
    return all(isinstance(text, str) for item in content["identity"].items() for text in item)
