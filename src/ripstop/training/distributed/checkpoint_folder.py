"""A checkpoint of several processes: a folder to which each writes its part, refused where a byte is not as it was written.

`torch.distributed.checkpoint` keeps the large tensors, of which any number of processes reads what it needs. `state.pt` holds
the rest; `manifest.json` holds the SHA-256 of every other file, and the folder's name its own: whatever is damaged, missing or
added is found before anything is read.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ripstop.files import sync
from ripstop.training import checkpoint_file
from ripstop.training.checkpoint_file import DIGITS
from ripstop.training.distributed.parts import is_in_parts
from ripstop.training.distributed.ranks import Ranks

if TYPE_CHECKING:
    from ripstop.training.distributed.part_reader import PartReader
    from ripstop.training.distributed.strategy import Layout

MOVES_NO_NUMBER = "keeps the state of a training, which resumes to the same numbers"

REST, MANIFEST = "state.pt", "manifest.json"
APART = "tensor kept apart"
"""Key of what stands in the rest for a tensor."""
SMALL = 256
"""Numbers of a tensor that is whole on every process and not worth a place of its own."""


def write(folder: Path, content: dict[str, Any], ranks: Ranks) -> str:
    """Write the folder, by all ranks together; the SHA-256 of its manifest, in hex. `OSError` where the disk refuses it."""
    ranks.once(lambda: _make_empty(folder))
    tensors: dict[str, Tensor] = {}
    rest = content | {"state": _apart(content["state"], (), tensors)}
    ranks.each(lambda: _save(folder, tensors))
    parts = ranks.each(lambda: _digests(folder, f"__{ranks.rank}_*"))
    return ranks.once(lambda: _finish(folder, rest, {name: digest for part in parts for name, digest in part.items()}))


def read(folder: Path) -> dict[str, Any] | None:
    """What the folder holds but for its large tensors; None, and a sentence, where it cannot be used."""
    try:
        damage = _damage(folder)
        if damage:
            print(f"{folder}: damaged, {damage}; not used", flush=True)
            return None
        _reader(folder).read_metadata()  # in which nothing foreign may stand
        content = header(folder)
    except Exception as error:  # torch and pickle raise a dozen kinds for a file that is none of theirs
        checkpoint_file.unusable(folder, error)
        return None
    return checkpoint_file.checked(folder, content)


def header(folder: Path) -> dict[str, Any]:
    """What `read` returns of a folder that was found to be whole."""
    return torch.load(folder / REST, map_location="cpu", weights_only=True)


def filled(content: dict[str, Any], folder: Path, layout: Layout | None, ranks: Ranks) -> dict[str, Any]:
    """`content` with its large tensors: as `layout` lays them out, else whole and on the CPU. By all ranks together."""
    from torch.distributed.checkpoint import load

    reader = _reader(folder)
    told: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for name, tensor in told.items():
        like = None if layout is None else layout(tuple(name.split("/")), tensor.size)
        dtype = tensor.properties.dtype
        tensors[name] = torch.empty(tensor.size, dtype=dtype) if like is None else torch.empty_like(like, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single process, which is meant
        load(tensors, storage_reader=reader, no_dist=ranks.alone)
    return content | {"state": _together(content["state"], tensors)}


def _reader(folder: Path) -> PartReader:
    from ripstop.training.distributed.part_reader import PartReader  # slow to import

    return PartReader(folder)


def _apart(value: Any, place: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """`value` with names in place of its large tensors, which go to `tensors`."""
    if isinstance(value, dict):
        return {key: _apart(item, (*place, str(key)), tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_apart(item, (*place, str(number)), tensors) for number, item in enumerate(value)]
    if not _is_large(value):
        return value
    name = "/".join(place)
    tensors[name] = value.detach()
    return {APART: name}


def _is_large(value: Any) -> bool:
    """Whether it is in parts, or a plain tensor of some size. (Moments of 8 bits are tensors of a kind of their own.)"""
    return is_in_parts(value) or (type(value) in (Tensor, torch.nn.Parameter) and value.numel() > SMALL)


def _together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return tensors[value[APART]] if APART in value else {key: _together(item, tensors) for key, item in value.items()}
    return [_together(item, tensors) for item in value] if isinstance(value, list) else value


def _make_empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def _save(folder: Path, tensors: dict[str, Tensor]) -> None:
    from torch.distributed.checkpoint import FileSystemWriter, save
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        save(tensors, storage_writer=FileSystemWriter(folder))
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        for cause in causes:
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror or str(cause), str(folder)) from error
        if any(re.search("PytorchStreamWriter|file write failed|unexpected pos", str(cause)) for cause in causes):
            # torch's writer hides the disk's own error behind these
            raise OSError(errno.ENOSPC, "the disk did not take all of it", str(folder)) from error
        raise RuntimeError(f"{folder}: cannot be saved ({causes[0] if causes else error})") from error


def _digests(folder: Path, pattern: str) -> dict[str, str]:
    return {path.name: checkpoint_file.digest(path) for path in folder.glob(pattern)}


def _finish(folder: Path, rest: dict[str, Any], digests: dict[str, str]) -> str:
    """The first rank's files, and last the manifest of all."""
    digests[REST] = checkpoint_file.write(folder / REST, rest)
    digests |= _digests(folder, ".metadata")
    path = folder / MANIFEST
    with open(path, "w", encoding="utf-8") as file:
        json.dump(digests, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    sync(folder)
    return checkpoint_file.digest(path)


def _damage(folder: Path) -> str:
    """What is not as it was written; "" where all is."""
    path = folder / MANIFEST
    if not path.is_file():
        return f"{MANIFEST} is missing"
    if checkpoint_file.digest(path)[:DIGITS] != folder.name.rpartition("-")[2]:
        return f"{MANIFEST} does not match the digest in the folder's name"
    digests = json.loads(path.read_text(encoding="utf-8"))
    there = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    if there != set(digests):
        name = min(there ^ set(digests))
        return f"{name} is missing" if name in digests else f"{name} does not belong to it"
    for name, digest in digests.items():
        if checkpoint_file.digest(folder / name) != digest:
            return f"{name} does not match its digest in {MANIFEST}"
    return ""
