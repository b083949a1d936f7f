"""Attention inside the selected blocks: the backward kernels.

Gradients of queries are made query by query, as the output is. Those of keys and values are made block by block: the pairs
(query, block) are sorted by block, and a program walks over the queries of one, several at a time, so that products are large.
Everyone selects a document's first block, so a block's queries are cut in items of bounded length, whose parts are summed in a
fixed order: the same input gives the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.selected_forward import count, sizes, tokens
from ripstop.kernels.triton.strided_backward import dkv_tile
from ripstop.kernels.triton.tiles import Widths, launch, load_rows, power_of_two, precision, products, store_rows

FEW_PAIRS, MANY_PAIRS, MANY = 256, 1024, 2**20
"""Pairs of an item: few, so that a short sequence keeps a device busy; many in a long one, whose items take memory."""


def backward(
    dy_BTHP: Tensor, y_BTHP: Tensor, lse_BTH: Tensor,
    q_BTHK: Tensor, k_BSGK: Tensor, v_BSGP: Tensor, ids_BTGn: Tensor, start_BT: Tensor | None,
    block: int, first: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv. dy, y and lse are dense."""
    n_batch, n_queries, n_heads, n_k = q_BTHK.shape
    _, n_keys, n_groups, n_p = v_BSGP.shape
    dq, delta = q_BTHK.new_empty(q_BTHK.shape), lse_BTH.new_empty(lse_BTH.shape)
    shape = launch("selected_dq", q_BTHK, n_k + n_p, n_k + n_p)
    columns = min(shape.columns, power_of_two(block))
    strides = (*q_BTHK.stride()[:3], *k_BSGK.stride()[:3], *v_BSGP.stride()[:3])
    _dq[(n_queries, n_batch * n_groups)](
        q_BTHK, k_BSGK, v_BSGP, ids_BTGn, start_BT, dy_BTHP, y_BTHP, lse_BTH, delta, dq, *strides, first, n_queries, scale,
        **sizes(k_BSGK, v_BSGP, ids_BTGn, start_BT, n_heads, block, columns), num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip

    items = Items.of(ids_BTGn, triton.cdiv(n_keys, block))
    n_items = items.block_w.numel()
    dk_parts, dv_parts = (t.new_empty(n_items, block, t.shape[3], dtype=torch.float32) for t in (k_BSGK, v_BSGP))
    shape = launch("selected_dkv", q_BTHK, n_k + n_p, n_k + n_p)
    columns = min(shape.columns, power_of_two(block))
    _dkv[(n_items, triton.cdiv(block, columns))](
        q_BTHK, k_BSGK, v_BSGP, start_BT, items.time_p, items.block_w, items.begin_w, items.end_w,
        dy_BTHP, lse_BTH, delta, dk_parts, dv_parts, *strides, first, n_queries, n_keys, scale, triton.cdiv(n_keys, block),
        BLOCK=block, HAS_START=start_BT is not None, R=n_heads // n_groups, G=n_groups, K=n_k, P=n_p,
        **Widths.of(k_BSGK, v_BSGP)._asdict(), PRECISION=precision(q_BTHK), ROWS=shape.rows, COLUMNS=columns,
        num_warps=shape.warps, num_stages=shape.stages,
    )  # fmt: skip
    dk, dv = k_BSGK.new_empty(k_BSGK.shape), v_BSGP.new_empty(v_BSGP.shape)
    for parts, total in ((dk_parts, dk), (dv_parts, dv)):
        _sum[(triton.cdiv(n_keys, block), n_batch * n_groups)](
            parts, items.until_b, total, n_keys, G=n_groups, WIDTH=total.shape[3], TILE=power_of_two(total.shape[3]),
            BLOCK=block, ROWS=min(32, power_of_two(block)), num_warps=4,
        )  # fmt: skip
    return dq, dk, dv


class Items(NamedTuple):
    """The work of a block-major pass: pairs (query, block) in the order of blocks, in items of pairs of one block each.

    time_p: query of each pair. block_w: number of each item's block, counted through groups and rows of the batch; begin_w,
    end_w: its pairs; items of no use, at the end, have none. until_b: how many items there are up to and with each block.
    All int32, and made without waiting for the device.
    """

    time_p: Tensor
    block_w: Tensor
    begin_w: Tensor
    end_w: Tensor
    until_b: Tensor

    @classmethod
    def of(cls, ids_BTGn: Tensor, n_blocks: int) -> Items:
        n_batch, n_queries, n_groups, n = ids_BTGn.shape
        row_BG = torch.arange(n_batch * n_groups, device=ids_BTGn.device, dtype=torch.int32).view(n_batch, 1, n_groups, 1)
        none = n_batch * n_groups * n_blocks
        block_p, pair_p = torch.where(ids_BTGn < 0, none, ids_BTGn + row_BG * n_blocks).flatten().sort(stable=True)
        n_pairs = block_p.numel()
        size = FEW_PAIRS if n_pairs <= MANY else MANY_PAIRS
        number_b = torch.arange(none + 1, device=ids_BTGn.device, dtype=torch.int32)
        begin_b = torch.searchsorted(block_p, number_b, out_int32=True)
        items_b = (begin_b.diff() + size - 1) // size
        until_b = items_b.cumsum(0, dtype=torch.int32)
        item_w = torch.arange(n_pairs // size + min(none, n_pairs), device=ids_BTGn.device, dtype=torch.int32)
        block_w = torch.searchsorted(until_b, item_w, right=True, out_int32=True)
        known_w = block_w.clamp(max=none - 1)
        begin_w = begin_b[known_w] + (item_w - until_b[known_w] + items_b[known_w]) * size
        end_w = torch.where(block_w < none, torch.minimum(begin_w + size, begin_b[known_w + 1]), begin_w)
        return cls((pair_p // (n_groups * n) % n_queries).to(torch.int32), block_w, begin_w, end_w, until_b)


@triton.jit(do_not_specialize=["first", "n_queries"])
def _dq(
    q, k, v, ids, start, dy, y, lse, deltas, dq, q_b, q_t, q_h, k_b, k_s, k_g, v_b, v_s, v_g, first, n_queries, scale,
    BLOCK: tl.constexpr, N: tl.constexpr, SLOTS: tl.constexpr, HAS_START: tl.constexpr,
    R: tl.constexpr, G: tl.constexpr, K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    time = tl.program_id(0).to(tl.int64)
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    row = tl.arange(0, ROWS)
    inside = row < R
    head = g * R + row
    q += b * q_b + time * q_t
    q1 = load_rows(q, head * q_h, inside, 0, K1, K)
    q2 = load_rows(q, head * q_h, inside, K1, K2, K) if K2 > 0 else q1
    out = (b * n_queries + time) * (G * R) + head
    dy_rows = load_rows(dy, out * P, inside, 0, PP, P)
    y_rows = load_rows(y, out * P, inside, 0, PP, P)
    delta = tl.sum(dy_rows.to(tl.float32) * y_rows.to(tl.float32), 1)
    tl.store(deltas + out, delta, mask=inside)
    lse_row = tl.load(lse + out, mask=inside, other=float("inf"))
    lse_log2 = tl.where(lse_row == float("-inf"), float("inf"), lse_row) * 1.4426950408889634
    ids += ((b * n_queries + time) * G + g) * N
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g
    position = first + time.to(tl.int32)
    begin = 0
    if HAS_START:
        begin = tl.load(start + b * n_queries + time)

    column = tl.arange(0, COLUMNS)
    scale_log2 = scale * 1.4426950408889634
    acc1 = tl.zeros((ROWS, K1), tl.float32)
    acc2 = tl.zeros((ROWS, K2), tl.float32) if K2 > 0 else acc1
    for i in range(0, count(ids, BLOCK, COLUMNS, N, SLOTS)):
        lead, seen = tokens(ids, i, BLOCK, COLUMNS)
        seen = seen & (lead + column <= position) & (lead + column >= begin)
        k_tile, v_tile = k + lead.to(tl.int64) * k_s, v + lead.to(tl.int64) * v_s
        k1 = load_rows(k_tile, column * k_s, seen, 0, K1, K)
        k2 = load_rows(k_tile, column * k_s, seen, K1, K2, K) if K2 > 0 else k1
        v_rows = load_rows(v_tile, column * v_s, seen, 0, PP, P)
        scores = tl.where(seen[None, :], products(q1, q2, k1, k2, K2, PRECISION) * scale_log2, float("-inf"))
        p = tl.exp2(scores - lse_log2[:, None])
        dp = tl.dot(dy_rows, tl.trans(v_rows), input_precision=PRECISION)
        ds = (p * (dp - delta[:, None])).to(k1.dtype)
        acc1 = tl.dot(ds, k1, acc1, input_precision=PRECISION)
        if K2 > 0:
            acc2 = tl.dot(ds, k2, acc2, input_precision=PRECISION)
    store_rows(dq, out * K, acc1 * scale, inside, 0, K1, K)
    if K2 > 0:
        store_rows(dq, out * K, acc2 * scale, inside, K1, K2, K)


@triton.jit(do_not_specialize=["first", "n_queries", "n_keys", "n_blocks"])
def _dkv(
    q, k, v, start, times, item_block, item_begin, item_end, dy, lse, deltas, dk, dv,
    q_b, q_t, q_h, k_b, k_s, k_g, v_b, v_s, v_g, first, n_queries, n_keys, scale, n_blocks,
    BLOCK: tl.constexpr, HAS_START: tl.constexpr, R: tl.constexpr, G: tl.constexpr, K: tl.constexpr, P: tl.constexpr,
    K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    item = tl.program_id(0).to(tl.int64)
    pair_from, pair_to = tl.load(item_begin + item), tl.load(item_end + item)
    if pair_from == pair_to:
        return
    number = tl.load(item_block + item)
    b, g = (number // n_blocks // G).to(tl.int64), number // n_blocks % G
    within = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    key = number % n_blocks * BLOCK + within
    is_key = (within < BLOCK) & (key < n_keys)
    k_offset = b * k_b + g * k_g + key.to(tl.int64) * k_s
    k1 = load_rows(k, k_offset, is_key, 0, K1, K)
    k2 = load_rows(k, k_offset, is_key, K1, K2, K) if K2 > 0 else k1
    v_rows = load_rows(v, b * v_b + g * v_g + key.to(tl.int64) * v_s, is_key, 0, PP, P)

    scale_log2 = scale * 1.4426950408889634
    dk1 = tl.zeros((COLUMNS, K1), tl.float32)
    dk2 = tl.zeros((COLUMNS, K2), tl.float32) if K2 > 0 else dk1
    dv_acc = tl.zeros((COLUMNS, PP), tl.float32)
    n_rows = (pair_to - pair_from) * R
    for begin in range(0, n_rows, ROWS):
        row = begin + tl.arange(0, ROWS)
        inside = row < n_rows
        time = tl.load(times + pair_from + row // R, mask=inside, other=0)
        head = g * R + row % R
        seen = key[:, None] <= (first + time)[None, :]
        if HAS_START:
            seen = seen & (key[:, None] >= tl.load(start + b * n_queries + time, mask=inside, other=0)[None, :])
        dk1, dk2, dv_acc = dkv_tile(
            (dk1, dk2, dv_acc), k1, k2, v_rows, q + b * q_b, dy, lse, deltas, time.to(tl.int64) * q_t + head * q_h,
            (b * n_queries + time) * (G * R) + head, inside, seen, scale_log2, K, P, K1, K2, PP, PRECISION, True,
        )  # fmt: skip
    out = item * BLOCK + within
    store_rows(dk, out * K, dk1 * scale, within < BLOCK, 0, K1, K)
    if K2 > 0:
        store_rows(dk, out * K, dk2 * scale, within < BLOCK, K1, K2, K)
    store_rows(dv, out * P, dv_acc, within < BLOCK, 0, PP, P)


@triton.jit(do_not_specialize=["n_keys"])
def _sum(
    parts, until, total, n_keys,
    G: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradient of a block from those of its items, in their order."""
    n_blocks = tl.num_programs(0)
    number = tl.program_id(1) * n_blocks + tl.program_id(0)
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    item_to = tl.load(until + number)
    item_from = tl.load(until + number - 1, mask=number > 0, other=0)
    for lead in tl.static_range(0, BLOCK, ROWS):
        within = lead + tl.arange(0, ROWS)
        acc = tl.zeros((ROWS, TILE), tl.float32)
        for i in range(0, item_to - item_from):
            acc += load_rows(
                parts + (item_from.to(tl.int64) + i) * BLOCK * WIDTH, within * WIDTH, within < BLOCK, 0, TILE, WIDTH
            )
        key = tl.program_id(0) * BLOCK + within
        inside = (within < BLOCK) & (key < n_keys)
        store_rows(total, ((b * n_keys + key) * G + g) * WIDTH, acc, inside, 0, TILE, WIDTH)
