"""Attention to keys that each stand for `length` tokens, one every `stride` tokens: the forward kernel.

Compressed blocks are such keys; plain tokens are, with length 1 and stride 1. A query at t sees key j, tokens j * stride to
j * stride + length - 1, if all of them lie between its document's beginning and itself, and, with a window, the first of them
after t - window. What it sees is one range of keys.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ripstop.kernels.triton.partial_softmax import combine, splits
from ripstop.kernels.triton.tiles import Widths, launch, load_rows, power_of_two, precision, products, store_rows


def forward(
    q_BTHK: Tensor, k_BNGK: Tensor, v_BNGP: Tensor, start_BT: Tensor | None,
    length: int, stride: int, window: int, first: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y_BTHP and lse_BTH, float32. start_BT: int32, dense; window: 0 for none."""
    n_batch, n_queries, n_heads, n_k = q_BTHK.shape
    _, n_keys, n_groups, n_p = v_BNGP.shape
    heads = n_heads // n_groups
    widths = Widths.of(k_BNGK, v_BNGP)
    shape = launch(name_of(length), q_BTHK, n_k, n_k + n_p)
    rows = min(shape.rows, power_of_two(n_queries * heads))
    n_tiles = triton.cdiv(n_queries * heads, rows)
    n_splits = splits(n_tiles * n_batch * n_groups, triton.cdiv(n_keys, shape.columns), q_BTHK.device)
    y, lse = _outputs(q_BTHK, n_splits, n_p)
    _forward[(n_tiles * n_splits, n_batch * n_groups)](
        q_BTHK, k_BNGK, v_BNGP, start_BT, y, lse, *q_BTHK.stride()[:3], *k_BNGK.stride()[:3], *v_BNGP.stride()[:3],
        first, n_queries, n_keys, scale, n_batch, LENGTH=length, STRIDE=stride, WINDOW=window, HAS_START=start_BT is not None,
        R=heads, G=n_groups, K=n_k, P=n_p, **widths._asdict(), SPLITS=n_splits, ROWS=rows, COLUMNS=shape.columns,
        PRECISION=precision(q_BTHK), num_warps=shape.warps if rows >= 64 else 4, num_stages=shape.stages,
    )  # fmt: skip
    return combine(y, lse, q_BTHK.dtype)


def name_of(length: int) -> str:
    """What launches call this attention."""
    return "window" if length == 1 else "compressed"


def _outputs(q_BTHK: Tensor, n_splits: int, n_p: int) -> tuple[Tensor, Tensor]:
    """Where parts of a softmax go, in float32 where there is more than one."""
    y_nBTHP = q_BTHK.new_empty(n_splits, *q_BTHK.shape[:3], n_p, dtype=torch.float32 if n_splits > 1 else q_BTHK.dtype)
    return y_nBTHP, y_nBTHP.new_empty(y_nBTHP.shape[:-1], dtype=torch.float32)


@triton.jit
def bounds(
    time, b, start, n_queries, first, n_keys,
    LENGTH: tl.constexpr, STRIDE: tl.constexpr, WINDOW: tl.constexpr, HAS_START: tl.constexpr,
):  # fmt: skip
    """The first key that each query sees, and the one after the last."""
    position = first + time
    lowest = tl.zeros_like(position)
    if HAS_START:
        lowest = tl.cdiv(tl.load(start + b * n_queries + time), STRIDE)
    if WINDOW > 0:
        lowest = tl.maximum(lowest, tl.cdiv(tl.maximum(position - WINDOW + 1, 0), STRIDE))
    beyond = tl.where(position >= LENGTH - 1, (position - LENGTH + 1) // STRIDE + 1, 0)
    return lowest, tl.minimum(beyond, n_keys)


@triton.jit
def whole_tiles(lowest, beyond, begin, n_tiles, COLUMNS: tl.constexpr):
    """Of n_tiles tiles of keys from begin on, the range of those that every query sees whole: no mask is needed there."""
    whole_from = tl.minimum(tl.cdiv(tl.maximum(tl.max(lowest, 0) - begin, 0), COLUMNS), n_tiles)
    whole_to = tl.minimum(tl.maximum(tl.min(beyond, 0) - begin, 0) // COLUMNS, n_tiles)
    return whole_from, tl.maximum(whole_to, whole_from)


@triton.jit
def _attend(
    acc, top, total, q1, q2, k, v, key, lowest, beyond, k_s, v_s, n_keys, scale_log2,
    K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    COLUMNS: tl.constexpr, PRECISION: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One tile of keys, from number `key` on, into the running softmax."""
    column = tl.arange(0, COLUMNS)
    inside = key + column < n_keys
    k_offset, v_offset = column * k_s, column * v_s
    k_tile, v_tile = k + key.to(tl.int64) * k_s, v + key.to(tl.int64) * v_s
    k1 = load_rows(k_tile, k_offset, inside, 0, K1, K)
    k2 = load_rows(k_tile, k_offset, inside, K1, K2, K) if K2 > 0 else k1
    scores = products(q1, q2, k1, k2, K2, PRECISION)
    if MASKED:
        seen = (key + column >= lowest[:, None]) & (key + column < beyond[:, None])
        scores = tl.where(seen, scores, float("-inf"))
    next_top = tl.maximum(top, tl.max(scores, 1) * scale_log2)
    finite_top = tl.where(next_top == float("-inf"), 0.0, next_top) if MASKED else next_top
    p = tl.exp2(scores * scale_log2 - finite_top[:, None])
    shrink = tl.exp2(top - finite_top)
    v_rows = load_rows(v_tile, v_offset, inside, 0, PP, P)
    acc = tl.dot(p.to(v_rows.dtype), v_rows, acc * shrink[:, None], input_precision=PRECISION)
    return acc, next_top, total * shrink + tl.sum(p, 1)


@triton.jit(do_not_specialize=["first", "n_queries", "n_keys", "n_batch"])
def _forward(
    q, k, v, start, y, lse, q_b, q_t, q_h, k_b, k_s, k_g, v_b, v_s, v_g, first, n_queries, n_keys, scale, n_batch,
    LENGTH: tl.constexpr, STRIDE: tl.constexpr, WINDOW: tl.constexpr, HAS_START: tl.constexpr,
    R: tl.constexpr, G: tl.constexpr, K: tl.constexpr, P: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, PP: tl.constexpr,
    SPLITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    n_row_tiles = tl.cdiv(n_queries * R, ROWS)
    tile = n_row_tiles - 1 - tl.program_id(0) // SPLITS  # the longest first: they would end last
    split = tl.program_id(0) % SPLITS
    b, g = (tl.program_id(1) // G).to(tl.int64), tl.program_id(1) % G
    row = tile * ROWS + tl.arange(0, ROWS)
    inside = row < n_queries * R
    time = tl.minimum(row // R, n_queries - 1)
    head = g * R + row % R
    q_offset = time.to(tl.int64) * q_t + head * q_h
    q1 = load_rows(q + b * q_b, q_offset, inside, 0, K1, K)
    q2 = load_rows(q + b * q_b, q_offset, inside, K1, K2, K) if K2 > 0 else q1
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g

    lowest, beyond = bounds(time, b, start, n_queries, first, n_keys, LENGTH, STRIDE, WINDOW, HAS_START)
    begin, end = tl.min(lowest, 0), tl.max(beyond, 0)
    if SPLITS > 1:
        part = tl.cdiv(tl.cdiv(tl.maximum(end - begin, 0), SPLITS), COLUMNS) * COLUMNS
        begin += split * part
        end = tl.minimum(end, begin + part)
    n_tiles = tl.cdiv(tl.maximum(end - begin, 0), COLUMNS)
    beyond = tl.minimum(beyond, end)
    whole_from, whole_to = whole_tiles(lowest, beyond, begin, n_tiles, COLUMNS)

    scale_log2 = scale * 1.4426950408889634
    acc = tl.zeros((ROWS, PP), tl.float32)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for i in range(whole_from, whole_to):
        acc, top, total = _attend(
            acc, top, total, q1, q2, k, v, begin + i * COLUMNS, lowest, beyond, k_s, v_s, n_keys, scale_log2,
            K, P, K1, K2, PP, COLUMNS, PRECISION, False,
        )  # fmt: skip
    for edge in range(0, n_tiles - (whole_to - whole_from)):
        i = tl.where(edge < whole_from, edge, edge + whole_to - whole_from)
        acc, top, total = _attend(
            acc, top, total, q1, q2, k, v, begin + i * COLUMNS, lowest, beyond, k_s, v_s, n_keys, scale_log2,
            K, P, K1, K2, PP, COLUMNS, PRECISION, True,
        )  # fmt: skip
    some, total = total > 0, tl.where(total > 0, total, 1.0)
    out = ((split * n_batch + b) * n_queries + time) * (G * R) + head
    store_rows(y, out * P, acc / total[:, None], inside, 0, PP, P)
    tl.store(lse + out, tl.where(some, (top + tl.log2(total)) * 0.6931471805599453, float("-inf")), mask=inside)
