"""A softmax in parts: where few queries meet many keys, as in decoding, programs share the keys and their parts are combined
(flash-decoding)."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.tiles import power_of_two


def splits(n_programs: int, n_tiles: int, device: torch.device, rounds: int = 1) -> int:
    """In how many parts each program's n_tiles tiles of keys are cut, so that each processor has `rounds` of them: a power of
    two up to 64."""
    wanted = rounds * _processors(device) // max(n_programs, 1)
    return max(1, min(64, 1 << max(wanted.bit_length() - 1, 0), 1 << max(n_tiles.bit_length() - 1, 0)))


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8


def combine(y_nBTHP: Tensor, lse_nBTH: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Outputs of n parts, each normalised by itself, as one: y in `dtype`, lse."""
    n_splits, *shape, n_p = y_nBTHP.shape
    if n_splits == 1:
        return y_nBTHP[0], lse_nBTH[0]
    y, lse = y_nBTHP.new_empty(*shape, n_p, dtype=dtype), lse_nBTH.new_empty(shape)
    _combine[(lse.numel(),)](y_nBTHP, lse_nBTH, y, lse, lse.numel(), SPLITS=n_splits, P=n_p, PP=power_of_two(n_p), num_warps=2)
    return y, lse


@triton.jit
def _combine(y_parts, lse_parts, y, lse, n_rows, SPLITS: tl.constexpr, P: tl.constexpr, PP: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part, column = tl.arange(0, SPLITS), tl.arange(0, PP)
    lse_part = tl.load(lse_parts + part * n_rows + row)
    top = tl.max(lse_part, 0)
    weight = tl.exp(lse_part - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(weight, 0)
    whole = tl.where(total > 0, total, 1.0)
    y_part = tl.load(y_parts + (part[:, None] * n_rows + row) * P + column[None, :], mask=(column < P)[None, :], other=0.0)
    out = tl.sum(y_part * (weight / whole)[:, None], 0)
    tl.store(y + row * P + column, out.to(y.dtype.element_ty), mask=column < P)
    tl.store(lse + row, tl.where(total > 0, top + tl.log(whole), float("-inf")))
