"""What the kernels share: a head of any width in tiles of powers of two, and how large tiles are launched.

A tile's sides are powers of two, a head's width need not be. Queries and keys are cut in two tiles (192 is 128 + 64, without
waste), values are padded. Rows are pairs (query, head of the group), so that the heads of a group, which read the same keys,
stand in one tile whatever their number.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634
SMALLEST = 16
"""Rows and columns that a tile of a matrix product has at least."""


class Launch(NamedTuple):
    """Rows and columns of the tile of scores, warps of a program, and how many loads ahead run."""

    rows: int
    columns: int
    warps: int
    stages: int


# By kernel, for numbers of 2 bytes (the fastest of those tried on an H200, benchmarks/sparse_attention_cuda.py) and of 4.
LAUNCHES = {
    "compressed": (Launch(128, 64, 8, 3), Launch(64, 32, 4, 2)),
    "compressed_dq": (Launch(64, 32, 4, 3), Launch(32, 32, 4, 2)),
    "compressed_dkv": (Launch(32, 128, 8, 3), Launch(32, 32, 4, 2)),
    "scores": (Launch(128, 64, 4, 2), Launch(64, 32, 4, 2)),
    "selected": (Launch(16, 32, 1, 2), Launch(16, 32, 4, 2)),
    "selected_dq": (Launch(16, 32, 2, 3), Launch(16, 32, 4, 2)),
    "selected_dkv": (Launch(32, 64, 4, 2), Launch(32, 32, 4, 2)),
    "window": (Launch(64, 64, 4, 2), Launch(64, 32, 4, 2)),
    "window_dq": (Launch(128, 32, 8, 3), Launch(32, 32, 4, 2)),
    "window_dkv": (Launch(64, 128, 8, 2), Launch(32, 32, 4, 2)),
}
STREAMS_ROWS = ("compressed_dkv", "selected_dkv", "window_dkv")
"""Kernels that keep a tile of keys and stream queries; the others keep queries and stream keys."""


def launch(kernel: str, x: Tensor, row: int, column: int) -> Launch:
    """The kernel's launch for tensors like x, with as many stages as shared memory holds.

    row, column: numbers of a row and of a column of the tile that are in shared memory. What the kernel keeps counts once, what
    it streams counts for every stage.
    """
    wanted = LAUNCHES[kernel][x.element_size() > 2]
    rows, columns = wanted.rows * row, wanted.columns * column
    kept, streamed = (columns, rows) if kernel in STREAMS_ROWS else (rows, columns)
    room = (_shared_memory(x.device) - 16384) // x.element_size() - kept
    return wanted._replace(stages=max(1, min(wanted.stages, room // streamed)))


@functools.cache
def _shared_memory(device: torch.device) -> int:
    """Bytes of a program at most; of a Hopper where there is no GPU."""
    if device.type != "cuda":
        return 232448
    properties: Any = torch.cuda.get_device_properties(device)
    return properties.shared_memory_per_block_optin


class Widths(NamedTuple):
    """Tiles of a head's width: two for queries and keys, the second 0 where one is enough, and one for values."""

    K1: int
    K2: int
    PP: int

    @classmethod
    def of(cls, k: Tensor, v: Tensor) -> Widths:
        n = k.shape[-1]
        first = max(SMALLEST, 1 << (n.bit_length() - 1))
        second = 0 if n <= first else power_of_two(n - first)
        if first == second:
            first, second = 2 * first, 0
        return cls(first, second, power_of_two(v.shape[-1]))


def power_of_two(n: int, least: int = SMALLEST) -> int:
    """The next one from n on, and `least` at least."""
    return max(least, 1 << (n - 1).bit_length())


def precision(x: Tensor) -> str:
    """How products of float32 are taken: three of TF32, whose errors are float32's. Half precisions are what they are."""
    return "tf32x3" if x.dtype == torch.float32 else "tf32"


def innermost(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors with their last axis dense, as kernels read them; other strides may be any: caches are not copied."""
    return tuple(t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous() for t in tensors)


@triton.jit
def load_rows(base, offset, inside, FROM: tl.constexpr, WIDTH: tl.constexpr, END: tl.constexpr):
    """(rows, WIDTH): from column FROM on; zeros outside and from column END on."""
    column = FROM + tl.arange(0, WIDTH)
    mask = inside[:, None]
    if FROM + WIDTH > END:
        mask = mask & (column < END)[None, :]
    return tl.load(base + offset[:, None] + column[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(base, offset, x, inside, FROM: tl.constexpr, WIDTH: tl.constexpr, END: tl.constexpr):
    """The columns before END, in the precision of what base points to."""
    column = FROM + tl.arange(0, WIDTH)
    mask = inside[:, None] & (column < END)[None, :]
    tl.store(base + offset[:, None] + column[None, :], x.to(base.dtype.element_ty), mask=mask)


@triton.jit
def products(a1, a2, b1, b2, K2: tl.constexpr, PRECISION: tl.constexpr):
    """a b^T, over both tiles of the width."""
    ab = tl.dot(a1, tl.trans(b1), input_precision=PRECISION)
    if K2 > 0:
        ab = tl.dot(a2, tl.trans(b2), ab, input_precision=PRECISION)
    return ab
