"""Attention to keys that each stand for several tokens, as in `strided_forward`: the backward kernels.

Gradients of queries are made query by query, those of keys and values key by key; parts of the latter are summed in a fixed
order. Nothing is added up by atomics: the same input gives the same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.partial_softmax import splits
from ripstop.kernels.triton.strided_forward import bounds, name_of, whole_tiles
from ripstop.kernels.triton.tiles import Widths, launch, load_rows, power_of_two, precision, products, store_rows


def backward(
    dy_BTHP: Tensor, y_BTHP: Tensor, lse_BTH: Tensor,
    q_BTHK: Tensor, k_BNGK: Tensor, v_BNGP: Tensor, start_BT: Tensor | None,
    length: int, stride: int, window: int, first: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv. dy, y and lse are dense."""
    n_batch, n_queries, n_heads, n_k = q_BTHK.shape
    _, n_keys, n_groups, n_p = v_BNGP.shape
    heads = n_heads // n_groups
    dq, delta = q_BTHK.new_empty(q_BTHK.shape), lse_BTH.new_empty(lse_BTH.shape)
    sizes = dict(
        LENGTH=length, STRIDE=stride, WINDOW=window, HAS_START=start_BT is not None,
        R=heads, G=n_groups, K=n_k, P=n_p, **Widths.of(k_BNGK, v_BNGP)._asdict(), PRECISION=precision(q_BTHK),
    )  # fmt: skip
    strides = (*q_BTHK.stride()[:3], *k_BNGK.stride()[:3], *v_BNGP.stride()[:3])
    numbers = (first, n_queries, n_keys, scale)

    shape = launch(f"{name_of(length)}_dq", q_BTHK, n_k + n_p, n_k + n_p)
    rows = min(shape.rows, power_of_two(n_queries * heads))
    _dq[(triton.cdiv(n_queries * heads, rows), n_batch * n_groups)](
        q_BTHK, k_BNGK, v_BNGP, start_BT, dy_BTHP, y_BTHP, lse_BTH, delta, dq, *strides, *numbers,
        **sizes, ROWS=rows, COLUMNS=shape.columns, num_warps=shape.warps if rows >= 64 else 4, num_stages=shape.stages,
    )  # fmt: skip

    shape = launch(f"{name_of(length)}_dkv", q_BTHK, n_k + n_p, n_k + n_p)
    n_tiles = triton.cdiv(n_keys, shape.columns)
    n_rows = triton.cdiv(min(n_queries, window + shape.columns if window else n_queries) * heads, shape.rows)
    n_splits = splits(n_tiles * n_batch * n_groups, n_rows, q_BTHK.device)
    dtype = torch.float32 if n_splits > 1 else k_BNGK.dtype
    dk, dv = (t.new_empty(n_splits, *t.shape, dtype=dtype) for t in (k_BNGK, v_BNGP))
    if n_tiles:
        _dkv[(n_tiles * n_splits, n_batch * n_groups)](
            q_BTHK, k_BNGK, v_BNGP, start_BT, _until(start_BT, n_keys, shape.columns, stride), dy_BTHP, lse_BTH, delta, dk, dv,
            *strides, *numbers, n_batch, **sizes,
            SPLITS=n_splits, ROWS=shape.rows, COLUMNS=shape.columns, num_warps=shape.warps, num_stages=shape.stages,
        )  # fmt: skip
    if n_splits == 1:
        return dq, dk[0], dv[0]
    return dq, dk.sum(0).to(k_BNGK.dtype), dv.sum(0).to(v_BNGP.dtype)


def _until(start_BT: Tensor | None, n_keys: int, columns: int, stride: int) -> Tensor | None:
    """For each tile of keys: how many queries are not of a later document than its first key, and than its last, (2, B, c)."""
    if start_BT is None:
        return None
    begin_c = torch.arange(0, n_keys, columns, device=start_BT.device, dtype=torch.int32)
    last_c = (begin_c + columns).clamp(max=n_keys) - 1
    of_2c = torch.cat([begin_c, last_c]) * stride
    until_B2c = torch.searchsorted(start_BT, of_2c.expand(start_BT.shape[0], -1).contiguous(), right=True, out_int32=True)
    return until_B2c.unflatten(1, (2, -1)).transpose(0, 1).contiguous()


@triton.jit
def _dq_tile(
    acc, q1, q2, dy, lse_log2, delta, k, v, key, lowest, beyond, k_s, v_s, n_keys, scale_log2,
    K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    COLUMNS: tl.constexpr, PRECISION: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    acc1, acc2 = acc
    column = tl.arange(0, COLUMNS)
    inside = key + column < n_keys
    k_offset, v_offset = column * k_s, column * v_s
    k_tile, v_tile = k + key.to(tl.int64) * k_s, v + key.to(tl.int64) * v_s
    k1 = load_rows(k_tile, k_offset, inside, 0, K1, K)
    k2 = load_rows(k_tile, k_offset, inside, K1, K2, K) if K2 > 0 else k1
    v_rows = load_rows(v_tile, v_offset, inside, 0, PP, P)
    p = tl.exp2(products(q1, q2, k1, k2, K2, PRECISION) * scale_log2 - lse_log2[:, None])
    if MASKED:
        p = tl.where((key + column >= lowest[:, None]) & (key + column < beyond[:, None]), p, 0.0)
    dp = tl.dot(dy, tl.trans(v_rows), input_precision=PRECISION)
    ds = (p * (dp - delta[:, None])).to(k1.dtype)
    acc1 = tl.dot(ds, k1, acc1, input_precision=PRECISION)
    if K2 > 0:
        acc2 = tl.dot(ds, k2, acc2, input_precision=PRECISION)
    return acc1, acc2


@triton.jit(do_not_specialize=["first", "n_queries", "n_keys"])
def _dq(
    q, k, v, start, dy, y, lse, deltas, dq, q_b, q_t, q_h, k_b, k_s, k_g, v_b, v_s, v_g, first, n_queries, n_keys, scale,
    LENGTH: tl.constexpr, STRIDE: tl.constexpr, WINDOW: tl.constexpr, HAS_START: tl.constexpr,
    R: tl.constexpr, G: tl.constexpr, K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    row = tile * ROWS + tl.arange(0, ROWS)
    inside = row < n_queries * R
    time = tl.minimum(row // R, n_queries - 1)
    head = g * R + row % R
    q_offset = time.to(tl.int64) * q_t + head * q_h
    q1 = load_rows(q + b * q_b, q_offset, inside, 0, K1, K)
    q2 = load_rows(q + b * q_b, q_offset, inside, K1, K2, K) if K2 > 0 else q1
    out = (b * n_queries + time) * (G * R) + head
    dy_rows = load_rows(dy, out * P, inside, 0, PP, P)
    y_rows = load_rows(y, out * P, inside, 0, PP, P)
    delta = tl.sum(dy_rows.to(tl.float32) * y_rows.to(tl.float32), 1)
    tl.store(deltas + out, delta, mask=inside)
    lse_row = tl.load(lse + out, mask=inside, other=float("inf"))
    lse_log2 = tl.where(lse_row == float("-inf"), float("inf"), lse_row) * 1.4426950408889634  # who sees nothing weighs nothing
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g

    lowest, beyond = bounds(time, b, start, n_queries, first, n_keys, LENGTH, STRIDE, WINDOW, HAS_START)
    begin = tl.min(lowest, 0)
    n_tiles = tl.cdiv(tl.maximum(tl.max(beyond, 0) - begin, 0), COLUMNS)
    whole_from, whole_to = whole_tiles(lowest, beyond, begin, n_tiles, COLUMNS)
    scale_log2 = scale * 1.4426950408889634
    acc1 = tl.zeros((ROWS, K1), tl.float32)
    acc2 = tl.zeros((ROWS, K2), tl.float32) if K2 > 0 else acc1
    for i in range(whole_from, whole_to):
        acc1, acc2 = _dq_tile(
            (acc1, acc2), q1, q2, dy_rows, lse_log2, delta, k, v, begin + i * COLUMNS, lowest, beyond, k_s, v_s, n_keys,
            scale_log2, K, P, K1, K2, PP, COLUMNS, PRECISION, False,
        )  # fmt: skip
    for edge in range(0, n_tiles - (whole_to - whole_from)):
        i = tl.where(edge < whole_from, edge, edge + whole_to - whole_from)
        acc1, acc2 = _dq_tile(
            (acc1, acc2), q1, q2, dy_rows, lse_log2, delta, k, v, begin + i * COLUMNS, lowest, beyond, k_s, v_s, n_keys,
            scale_log2, K, P, K1, K2, PP, COLUMNS, PRECISION, True,
        )  # fmt: skip
    store_rows(dq, out * K, acc1 * scale, inside, 0, K1, K)
    if K2 > 0:
        store_rows(dq, out * K, acc2 * scale, inside, K1, K2, K)


@triton.jit
def dkv_tile(
    acc, k1, k2, v_rows, q, dy, lse, deltas, q_offset, out, inside, seen, scale_log2,
    K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    PRECISION: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One tile of rows into the gradients of a tile of keys, and of values. seen: (keys, rows), where masked."""
    dk1, dk2, dv = acc
    q1 = load_rows(q, q_offset, inside, 0, K1, K)
    q2 = load_rows(q, q_offset, inside, K1, K2, K) if K2 > 0 else q1
    dy_rows = load_rows(dy, out * P, inside, 0, PP, P)
    lse_row = tl.load(lse + out, mask=inside, other=float("inf"))
    lse_log2 = tl.where(lse_row == float("-inf"), float("inf"), lse_row) * 1.4426950408889634
    delta = tl.load(deltas + out, mask=inside, other=0.0)
    p = tl.exp2(products(k1, k2, q1, q2, K2, PRECISION) * scale_log2 - lse_log2[None, :])
    if MASKED:
        p = tl.where(seen, p, 0.0)
    dv = tl.dot(p.to(dy_rows.dtype), dy_rows, dv, input_precision=PRECISION)
    dp = tl.dot(v_rows, tl.trans(dy_rows), input_precision=PRECISION)
    ds = (p * (dp - delta[None, :])).to(q1.dtype)
    dk1 = tl.dot(ds, q1, dk1, input_precision=PRECISION)
    if K2 > 0:
        dk2 = tl.dot(ds, q2, dk2, input_precision=PRECISION)
    return dk1, dk2, dv


@triton.jit(do_not_specialize=["first", "n_queries", "n_keys", "n_batch"])
def _dkv(
    q, k, v, start, until, dy, lse, deltas, dk, dv, q_b, q_t, q_h, k_b, k_s, k_g, v_b, v_s, v_g,
    first, n_queries, n_keys, scale, n_batch,
    LENGTH: tl.constexpr, STRIDE: tl.constexpr, WINDOW: tl.constexpr, HAS_START: tl.constexpr,
    R: tl.constexpr, G: tl.constexpr, K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    PRECISION: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    tile, split = tl.program_id(0) // SPLITS, tl.program_id(0) % SPLITS
    n_key_tiles = tl.num_programs(0) // SPLITS
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    key = tile * COLUMNS + tl.arange(0, COLUMNS)
    is_key = key < n_keys
    k_offset = b * k_b + g * k_g + key.to(tl.int64) * k_s
    k1 = load_rows(k, k_offset, is_key, 0, K1, K)
    k2 = load_rows(k, k_offset, is_key, K1, K2, K) if K2 > 0 else k1
    v_rows = load_rows(v, b * v_b + g * v_g + key.to(tl.int64) * v_s, is_key, 0, PP, P)

    # The queries that see the first or the last of these keys, or all of them.
    lead = tile * COLUMNS * STRIDE
    last = (tl.minimum((tile + 1) * COLUMNS, n_keys) - 1) * STRIDE
    some_from, all_from = tl.maximum(lead + LENGTH - 1 - first, 0), tl.maximum(last + LENGTH - 1 - first, 0)
    some_to, all_to = n_queries, n_queries
    if WINDOW > 0:
        some_to = tl.minimum(some_to, tl.maximum(last + WINDOW - first, 0))
        all_to = tl.minimum(all_to, tl.maximum(lead + WINDOW - first, 0))
    if HAS_START:
        some_to = tl.minimum(some_to, tl.load(until + (n_batch + b) * n_key_tiles + tile))
        all_to = tl.minimum(all_to, tl.load(until + b * n_key_tiles + tile))
    row_from, row_to = some_from * R, some_to * R
    n_tiles = tl.cdiv(tl.maximum(row_to - row_from, 0), ROWS)
    whole_from = tl.minimum(tl.cdiv(tl.maximum(all_from * R - row_from, 0), ROWS), n_tiles)
    whole_to = tl.maximum(tl.minimum(tl.maximum(all_to * R - row_from, 0) // ROWS, n_tiles), whole_from)
    part = tl.cdiv(n_tiles, SPLITS)
    part_from, part_to = tl.minimum(split * part, n_tiles), tl.minimum((split + 1) * part, n_tiles)
    whole_from = tl.minimum(tl.maximum(whole_from, part_from), part_to)
    whole_to = tl.minimum(tl.maximum(whole_to, part_from), part_to)

    scale_log2 = scale * 1.4426950408889634
    dk1 = tl.zeros((COLUMNS, K1), tl.float32)
    dk2 = tl.zeros((COLUMNS, K2), tl.float32) if K2 > 0 else dk1
    dv_acc = tl.zeros((COLUMNS, PP), tl.float32)
    for i in range(whole_from, whole_to):
        row = row_from + i * ROWS + tl.arange(0, ROWS)
        time, head = row // R, g * R + row % R
        dk1, dk2, dv_acc = dkv_tile(
            (dk1, dk2, dv_acc), k1, k2, v_rows, q + b * q_b, dy, lse, deltas, time.to(tl.int64) * q_t + head * q_h,
            (b * n_queries + time) * (G * R) + head, row < row_to, None, scale_log2, K, P, K1, K2, PP, PRECISION, False,
        )  # fmt: skip
    for edge in range(part_from, part_to - (whole_to - whole_from)):
        i = tl.where(edge < whole_from, edge, edge + whole_to - whole_from)
        row = row_from + i * ROWS + tl.arange(0, ROWS)
        time, head = tl.minimum(row // R, n_queries - 1), g * R + row % R
        lowest, beyond = bounds(time, b, start, n_queries, first, n_keys, LENGTH, STRIDE, WINDOW, HAS_START)
        seen = (key[:, None] >= lowest[None, :]) & (key[:, None] < beyond[None, :])
        dk1, dk2, dv_acc = dkv_tile(
            (dk1, dk2, dv_acc), k1, k2, v_rows, q + b * q_b, dy, lse, deltas, time.to(tl.int64) * q_t + head * q_h,
            (b * n_queries + time) * (G * R) + head, row < row_to, seen, scale_log2, K, P, K1, K2, PP, PRECISION, True,
        )  # fmt: skip
    out = ((split * n_batch + b) * n_keys + key) * G + g
    store_rows(dk, out * K, dk1 * scale, is_key, 0, K1, K)
    if K2 > 0:
        store_rows(dk, out * K, dk2 * scale, is_key, K1, K2, K)
    store_rows(dv, out * P, dv_acc, is_key, 0, PP, P)
