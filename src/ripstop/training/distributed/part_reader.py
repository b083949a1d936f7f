"""Reads the parts of a checkpoint. Their index is a pickle, of which nothing is taken but what an index is made of."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata

MOVES_NO_NUMBER = "keeps the state of a training, which resumes to the same numbers"

INDEX = ".metadata"
_CHECKPOINT = "torch.distributed.checkpoint"
_NAMES = {
    (f"{_CHECKPOINT}.filesystem", "_StorageInfo"),
    *((f"{_CHECKPOINT}.metadata", name) for name in (
        "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties", "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    )),
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}  # fmt: skip


class PartReader(FileSystemReader):
    """`FileSystemReader`, which would run whatever an index names. `UnpicklingError` where it names anything else."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / INDEX, "rb") as file:
            found = _Unpickler(file).load()
        if not isinstance(found, Metadata) or found.storage_meta is None:
            raise pickle.UnpicklingError(f"{INDEX} is no index")
        found.storage_meta.load_id = self.load_id
        return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{INDEX} names {module}.{name}, which is no part of an index")
