"""Attention inside the selected blocks, arXiv 2502.11089 Section 3.4: a program a query and group, whose heads share its keys.

The heads of a group are the rows of the products, padded to 16: with 16 of them nothing is wasted, and a block is read once for
all. With fewer, the block is read as often and most of the product is padding. Where queries are few, as in decoding, programs
share the blocks of one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.partial_softmax import combine, splits
from ripstop.kernels.triton.tiles import SMALLEST, Widths, launch, load_rows, power_of_two, precision, products, store_rows


def forward(
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, start_BT: Tensor | None,
    block: int, first: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y_BTHP and lse_BTH, float32."""
    n_batch, n_queries, n_heads, n_k = q_BTHK.shape
    n_groups, n_p = v_BSGP.shape[2:]
    shape = launch("selected", q_BTHK, n_k, n_k + n_p)
    columns = min(shape.columns, power_of_two(block))
    n_splits = splits(n_queries * n_batch * n_groups, ids_BTGn.shape[3] * triton.cdiv(block, columns), q_BTHK.device)
    y = q_BTHK.new_empty(n_splits, *q_BTHK.shape[:3], n_p, dtype=torch.float32 if n_splits > 1 else q_BTHK.dtype)
    lse = y.new_empty(y.shape[:-1], dtype=torch.float32)
    _forward[(n_queries * n_splits, n_batch * n_groups)](
        q_BTHK, k_BSGK, v_BSGP, ids_BTGn, start_BT, y, lse, *q_BTHK.stride()[:3], *k_BSGK.stride()[:3], *v_BSGP.stride()[:3],
        first, n_queries, scale, n_batch, **sizes(k_BSGK, v_BSGP, ids_BTGn, start_BT, n_heads, block, columns), SPLITS=n_splits,
        num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    return combine(y, lse, q_BTHK.dtype)


def sizes(
    k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, start_BT: Tensor | None, n_heads: int, block: int, columns: int
) -> dict[str, int | str]:
    """What is compiled into a kernel that walks over the blocks of a query."""
    n_groups = k_BSGK.shape[2]
    return dict(
        BLOCK=block, N=ids_BTGn.shape[3], SLOTS=power_of_two(ids_BTGn.shape[3], 1), HAS_START=start_BT is not None,
        R=n_heads // n_groups, G=n_groups, K=k_BSGK.shape[3], P=v_BSGP.shape[3], **Widths.of(k_BSGK, v_BSGP)._asdict(),
        ROWS=power_of_two(n_heads // n_groups, SMALLEST), COLUMNS=columns, PRECISION=precision(k_BSGK),
    )  # fmt: skip


@triton.jit
def tokens(ids, i, BLOCK: tl.constexpr, COLUMNS: tl.constexpr):
    """The tokens of the i-th tile of a query's blocks: the first, and which of COLUMNS belong to the block."""
    TILES: tl.constexpr = (BLOCK + COLUMNS - 1) // COLUMNS
    within = i % TILES * COLUMNS + tl.arange(0, COLUMNS)
    lead = tl.load(ids + i // TILES) * BLOCK + i % TILES * COLUMNS
    return lead, within < BLOCK


@triton.jit
def count(ids, BLOCK: tl.constexpr, COLUMNS: tl.constexpr, N: tl.constexpr, SLOTS: tl.constexpr):
    """Tiles of a query's blocks."""
    slot = tl.arange(0, SLOTS)
    chosen = tl.load(ids + slot, mask=slot < N, other=-1) >= 0
    return tl.sum(chosen.to(tl.int32), 0) * ((BLOCK + COLUMNS - 1) // COLUMNS)


@triton.jit(do_not_specialize=["first", "n_queries", "n_batch"])
def _forward(
    q, k, v, ids, start, y, lse, q_b, q_t, q_h, k_b, k_s, k_g, v_b, v_s, v_g, first, n_queries, scale, n_batch,
    BLOCK: tl.constexpr, N: tl.constexpr, SLOTS: tl.constexpr, HAS_START: tl.constexpr,
    R: tl.constexpr, G: tl.constexpr, K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    time, split = (tl.program_id(0) // SPLITS).to(tl.int64), tl.program_id(0) % SPLITS
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    row = tl.arange(0, ROWS)
    inside = row < R
    head = g * R + row
    q += b * q_b + time * q_t
    q1 = load_rows(q, head * q_h, inside, 0, K1, K)
    q2 = load_rows(q, head * q_h, inside, K1, K2, K) if K2 > 0 else q1
    ids += ((b * n_queries + time) * G + g) * N
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g
    position = first + time.to(tl.int32)
    begin = 0
    if HAS_START:
        begin = tl.load(start + b * n_queries + time)
    n_tiles = count(ids, BLOCK, COLUMNS, N, SLOTS)
    part = tl.cdiv(n_tiles, SPLITS)

    column = tl.arange(0, COLUMNS)
    scale_log2 = scale * 1.4426950408889634
    acc = tl.zeros((ROWS, PP), tl.float32)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for i in range(split * part, tl.minimum((split + 1) * part, n_tiles)):
        lead, seen = tokens(ids, i, BLOCK, COLUMNS)
        seen = seen & (lead + column <= position) & (lead + column >= begin)
        k_tile, v_tile = k + lead.to(tl.int64) * k_s, v + lead.to(tl.int64) * v_s
        k1 = load_rows(k_tile, column * k_s, seen, 0, K1, K)
        k2 = load_rows(k_tile, column * k_s, seen, K1, K2, K) if K2 > 0 else k1
        scores = tl.where(seen[None, :], products(q1, q2, k1, k2, K2, PRECISION), float("-inf"))
        next_top = tl.maximum(top, tl.max(scores, 1) * scale_log2)
        finite_top = tl.where(next_top == float("-inf"), 0.0, next_top)
        p = tl.exp2(scores * scale_log2 - finite_top[:, None])
        shrink = tl.exp2(top - finite_top)
        v_rows = load_rows(v_tile, column * v_s, seen, 0, PP, P)
        acc = tl.dot(p.to(v_rows.dtype), v_rows, acc * shrink[:, None], input_precision=PRECISION)
        total = total * shrink + tl.sum(p, 1)
        top = next_top
    some, total = total > 0, tl.where(total > 0, total, 1.0)
    out = ((split * n_batch + b) * n_queries + time) * (G * R) + head
    store_rows(y, out * P, acc / total[:, None], inside, 0, PP, P)
    tl.store(lse + out, tl.where(some, (top + tl.log2(total)) * 0.6931471805599453, float("-inf")), mask=inside)
