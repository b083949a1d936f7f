"""Which blocks of tokens each query selects, from its scores against compressed blocks: Eq. 9 to 12 of arXiv 2502.11089.

No tensor of all queries against all blocks is made: a chunk of queries at a time, in a buffer of at most `BUFFER` bytes. One
kernel writes p = exp(score - lse), summed over a group's heads (Eq. 10), the other sums it over the blocks that overlap (Eq. 9)
and keeps the n largest. No gradient passes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.partial_softmax import splits
from ripstop.kernels.triton.strided_forward import bounds
from ripstop.kernels.triton.tiles import Widths, launch, load_rows, power_of_two, precision, products
from ripstop.ops.sparse_attention import Blocks

BUFFER = 256 * 2**20
MOST_TILES = 64
"""Tiles of keys that one program takes, if there are programs enough."""


def select_blocks(
    q: Tensor, k: Tensor, lse: Tensor, start: Tensor | None, blocks: Blocks, first: int, scale: float
) -> tuple[Tensor, Tensor]:
    """ids (B, T, G, n), int32: numbers of the selected blocks in the row, rising, -1 after the last; and their importance, in
    q's precision, 0 after the last.

    Always among them: the document's first n_first blocks and its last n_local, the query's own included. The others are those
    of the largest importance, of equal ones the earlier. lse: of the compressed attention of the same queries and keys.
    """
    length, stride, block, n_selected, n_first, n_local = blocks
    n_batch, n_queries, n_heads, n_k = q.shape
    n_keys, n_groups = k.shape[1:3]
    heads = n_heads // n_groups
    padded = power_of_two(heads, 1)  # heads of a query in a tile
    ids = torch.empty(n_batch, n_queries, n_groups, n_selected, dtype=torch.int32, device=q.device)
    importance = torch.empty_like(ids, dtype=q.dtype)
    shape = launch("scores", q, n_k, n_k)
    rows = min(shape.rows, power_of_two(n_queries * padded))
    chunk = min(n_queries, max(rows // padded, BUFFER // (4 * n_batch * n_groups * max(n_keys, 1))))
    p = torch.empty(n_batch, chunk, n_groups, n_keys, dtype=torch.float32, device=q.device)
    n_blocks = (first + n_queries - 1) // block + 1
    numbers = dict(LENGTH=length, STRIDE=stride, HAS_START=start is not None)
    for begin in range(0, n_queries, chunk):
        n = min(chunk, n_queries - begin)
        if n_keys:
            n_tiles, n_key_tiles = triton.cdiv(n, rows // padded), triton.cdiv(n_keys, shape.columns)
            programs = splits(n_tiles * n_batch * n_groups, n_key_tiles, q.device, 8)
            reach = shape.columns * min(MOST_TILES, triton.cdiv(n_key_tiles, programs))
            _scores[(n_tiles, triton.cdiv(n_keys, reach), n_batch * n_groups)](
                q, k, lse, start, p, *q.stride()[:3], *k.stride()[:3], begin, n, chunk, first, n_queries, n_keys, reach, scale,
                **numbers, R=heads, PADDED=padded, G=n_groups, K=n_k, K1=Widths.of(k, k).K1, K2=Widths.of(k, k).K2,
                ROWS=rows, COLUMNS=shape.columns, PRECISION=precision(q),
                num_warps=shape.warps if rows >= 64 else 4, num_stages=shape.stages,
            )  # fmt: skip
        width = power_of_two(n_blocks)
        _largest[(n, n_batch * n_groups)](
            p, start, ids, importance, begin, chunk, first, n_queries, n_keys, **numbers, G=n_groups, BLOCK=block,
            FIRST=n_first, LOCAL=n_local, N=n_selected, WIDTH=width, SLOTS=power_of_two(n_selected, 1),
            num_warps=1 if width <= 1024 else 4 if width <= 4096 else 8,
        )  # fmt: skip
    return ids, importance


@triton.jit(do_not_specialize=["begin", "n", "chunk", "first", "n_queries", "n_keys", "reach"])
def _scores(
    q, k, lse, start, p, q_b, q_t, q_h, k_b, k_s, k_g, begin, n, chunk, first, n_queries, n_keys, reach, scale,
    LENGTH: tl.constexpr, STRIDE: tl.constexpr, HAS_START: tl.constexpr, R: tl.constexpr, PADDED: tl.constexpr, G: tl.constexpr,
    K: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """p of n queries from `begin` on, (B, chunk, G, keys). What a query does not see is left, or is no number to rely on."""
    QUERIES: tl.constexpr = ROWS // PADDED
    b, g = (tl.program_id(2) // G).to(tl.int64), tl.program_id(2) % G
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    lowest, beyond = bounds(begin + tl.minimum(query, n - 1), b, start, n_queries, first, n_keys, LENGTH, STRIDE, 0, HAS_START)
    key_from = tl.maximum(tl.min(lowest, 0) // COLUMNS * COLUMNS, tl.program_id(1) * reach)
    key_to = tl.minimum(tl.max(beyond, 0), (tl.program_id(1) + 1) * reach)
    # Heads are the columns here: their sum is cheap along the inner axis of a tile.
    row = tl.arange(0, ROWS)
    of = tl.program_id(0) * QUERIES + row // PADDED
    inside = (of < n) & (row % PADDED < R)
    time = (begin + of).to(tl.int64)
    head = g * R + row % PADDED
    q1 = load_rows(q + b * q_b, time * q_t + head * q_h, inside, 0, K1, K)
    q2 = load_rows(q + b * q_b, time * q_t + head * q_h, inside, K1, K2, K) if K2 > 0 else q1
    lse_row = tl.load(lse + (b * n_queries + time) * (G * R) + head, mask=inside, other=float("inf"))
    lse_log2 = tl.where(lse_row == float("-inf"), float("inf"), lse_row) * 1.4426950408889634
    scale_log2 = scale * 1.4426950408889634
    column = tl.arange(0, COLUMNS)
    k += b * k_b + g * k_g
    p += ((b * chunk + query) * G + g)[None, :] * n_keys
    for i in range(0, tl.cdiv(tl.maximum(key_to - key_from, 0), COLUMNS)):
        key = key_from + i * COLUMNS
        is_key = key + column < n_keys
        k_tile = k + key.to(tl.int64) * k_s
        k1 = load_rows(k_tile, column * k_s, is_key, 0, K1, K)
        k2 = load_rows(k_tile, column * k_s, is_key, K1, K2, K) if K2 > 0 else k1
        weights = tl.exp2(products(k1, k2, q1, q2, K2, PRECISION) * scale_log2 - lse_log2[None, :])
        weights = tl.sum(tl.reshape(weights, (COLUMNS, QUERIES, PADDED)), 2)
        tl.store(p + (key + column)[:, None], weights, mask=is_key[:, None] & (query < n)[None, :])


@triton.jit(do_not_specialize=["begin", "chunk", "first", "n_queries", "n_keys"])
def _largest(
    p, start, ids, importances, begin, chunk, first, n_queries, n_keys,
    LENGTH: tl.constexpr, STRIDE: tl.constexpr, HAS_START: tl.constexpr, G: tl.constexpr, BLOCK: tl.constexpr,
    FIRST: tl.constexpr, LOCAL: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The n blocks of one query and group."""
    A: tl.constexpr = BLOCK // STRIDE
    L: tl.constexpr = LENGTH // STRIDE
    query = tl.program_id(0)
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    time = begin + query
    lowest, beyond = bounds(time, b, start, n_queries, first, n_keys, LENGTH, STRIDE, 0, HAS_START)
    own, lead = (first + time) // BLOCK, 0
    if HAS_START:
        lead = tl.load(start + b * n_queries + time) // BLOCK
    block = tl.arange(0, WIDTH)
    p += ((b * chunk + query) * G + g) * n_keys
    importance = tl.zeros((WIDTH,), tl.float32)
    for offset in tl.static_range(1 - L, A):
        # As many pairs (m, n) of Eq. 9 have m - n = offset: 1, 2, 2, 2, 1 at the paper's sizes.
        key = block * A + offset
        weight = tl.load(p + key, mask=(key >= lowest) & (key < beyond), other=0.0)
        importance += weight * ((offset + L if offset + L < A else A) - (offset if offset > 0 else 0))
    always = (block < lead + FIRST) | (block > own - LOCAL)
    # Numbers from 0 on are ordered as their bits are; below them, earlier blocks are larger: no two ranks are equal.
    bits = tl.where(always, float("inf"), importance).to(tl.int32, bitcast=True)
    rank = (bits.to(tl.int64) << 32) | (WIDTH - 1 - block).to(tl.int64)
    rank = tl.where((block >= lead) & (block <= own), rank, -1)
    least = tl.max(rank, 0)
    for _ in range(N - 1):
        least = tl.max(tl.where(rank < least, rank, -1), 0)
    taken = (rank >= least) & (rank >= 0)
    slot = tl.cumsum(taken.to(tl.int32), 0) - 1
    ids += ((b * n_queries + time) * G + g) * N
    importances += ((b * n_queries + time) * G + g) * N
    tl.store(ids + slot, block, mask=taken)
    tl.store(importances + slot, importance.to(importances.dtype.element_ty), mask=taken)
    empty = tl.arange(0, SLOTS)
    none = (empty < N) & (empty >= tl.sum(taken.to(tl.int32), 0))
    tl.store(ids + empty, tl.full((SLOTS,), -1, tl.int32), mask=none)
    tl.store(importances + empty, tl.zeros((SLOTS,), importances.dtype.element_ty), mask=none)
