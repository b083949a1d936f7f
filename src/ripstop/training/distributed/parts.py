"""Tensors of which every process holds a part of the rows (FSDP2), and what they are together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_in_parts(tensor: Any) -> bool:
    """Whether it is a tensor of which this process holds a part."""
    if not torch.distributed.is_initialized():
        return False  # the import takes its time, which one process does not wait for
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def part_of(tensor: Tensor) -> Tensor:
    """What this process holds of it, in the same memory; all of one that is not in parts."""
    return tensor.to_local() if is_in_parts(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of it, by all processes together."""
    return tensor.full_tensor() if is_in_parts(tensor) else tensor  # type: ignore[attr-defined]


def of_part(part: Tensor, like: Any) -> Tensor:
    """The tensor in parts of which this process holds `part`; laid out like `like`, which may be whole."""
    if not is_in_parts(like):
        return part
    from torch.distributed.tensor import DTensor

    part = part.to(like.device)
    return DTensor.from_local(part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def in_parts(tensor: Tensor, like: Any) -> Tensor:
    """A tensor that this process has all of, in parts where `like` is; no process asks another one."""
    if not is_in_parts(like) or is_in_parts(tensor):
        return tensor
    rows = tensor.chunk(like.device_mesh.size())  # as FSDP2 deals them out; there may be none for the last processes
    rank = like.device_mesh.get_local_rank()
    return of_part(rows[rank].contiguous() if rank < len(rows) else tensor[:0], like)
