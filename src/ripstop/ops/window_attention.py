"""Sliding-window attention with sinks: slowly with an explicit mask, and fast in blocks of queries.

A query sees the last `window_size` positions of its document, itself among them, and the document's first `sink_size`
(attention sinks, arXiv 2309.17453). Shapes as in `softmax_attention`; the queries are the last T of the S positions.

After a past, the keys begin at position `first` of the document, and `sinks` holds keys and values of the sinks before it:
`n_sinks = min(sink_size, first)` of them. A past goes with one document, so not with segments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ripstop.ops.operation import Operation
from ripstop.ops.segments import Segments
from ripstop.ops.softmax_attention import attention_reference, sdpa, visible


def window_attention_reference(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    window_size: int,
    sink_size: int = 0,
    segments: Segments | None = None,
    sinks: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """Every query against every key under a T x S mask. -> (B, T, H, P)."""
    n_queries, n_keys = q_BTHK.shape[1], k_BSGK.shape[1]
    if sinks is None:
        seen = visible(n_queries, n_keys, True, segments, window_size, sink_size, q_BTHK.device)
        return attention_reference(q_BTHK, k_BSGK, v_BSGP, seen)
    key_S = torch.arange(first, first + n_keys, device=q_BTHK.device)
    query_T1 = key_S[n_keys - n_queries :, None]
    key_S = torch.cat([torch.arange(sinks[0].shape[1], device=q_BTHK.device), key_S])
    seen = (key_S <= query_T1) & ((query_T1 - key_S < window_size) | (key_S < sink_size))
    return attention_reference(q_BTHK, torch.cat([sinks[0], k_BSGK], 1), torch.cat([sinks[1], v_BSGP], 1), seen)


def window_attention(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    window_size: int,
    sink_size: int = 0,
    segments: Segments | None = None,
    sinks: tuple[Tensor, Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """The same by SDPA over blocks of queries: time and memory grow with T * (window_size + sink_size), not with T * T."""
    documents = None if segments is None else _Documents(segments.run_BT, segments.start_BT, segments.position_BT)
    tensors = (q_BTHK, k_BSGK, v_BSGP, *(sinks or (None, None)))
    return blocked(*tensors, list(documents or ()), window_size, sink_size, first)


def _blocked(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGP: Tensor,
    window_size: int,
    sink_size: int,
    documents: _Documents | None,
    sinks: tuple[Tensor, Tensor] | None,
    first: int,
) -> Tensor:
    n_batch, n_queries = q_BTHK.shape[:2]
    n_keys = k_BSGK.shape[1]
    # As wide as the window, half of what a block reads is seen; narrower than 32 or wider than 128, products get slow.
    n_blocks = -(-n_queries // min(128, max(32, window_size)))
    blocks = _Blocks(n_blocks, -(-n_queries // n_blocks), min(window_size, n_keys) - 1, n_keys - n_queries)
    fill = blocks.n * blocks.size - n_queries
    q, k, v = (F.pad(t, (0, 0, 0, 0, 0, fill)) if fill else t for t in (q_BTHK, k_BSGK, v_BSGP))
    keys, values = _spans(k, blocks), _spans(v, blocks)
    if documents is None:
        seen, before = _one_document(blocks, window_size, sink_size, first, sinks, k, v)
    else:
        seen, before = _packed(blocks, window_size, sink_size, documents, fill, k, v)
    if before is not None:
        keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
    seen = seen.expand(n_batch, -1, -1, -1).flatten(0, 1).unsqueeze(1)
    y = sdpa(q.unflatten(1, (blocks.n, blocks.size)).flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), seen)
    return y.unflatten(0, (n_batch, blocks.n)).flatten(1, 2)[:, :n_queries]


class _Documents(NamedTuple):
    """What is needed of `Segments`."""

    run_BS: Tensor
    start_BS: Tensor
    position_BS: Tensor


def _of_tensors(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink_k: Tensor | None,
    sink_v: Tensor | None,
    documents: list[Tensor],
    window_size: int,
    sink_size: int,
    first: int,
) -> Tensor:
    """`_blocked` as an operation can be given it: tensors, lists of them, and numbers."""
    sinks = None if sink_k is None or sink_v is None else (sink_k, sink_v)
    packed = _Documents(*documents) if documents else None
    return _blocked(q, k, v, window_size, sink_size, packed, sinks, first)


def _forward(*tensors_and_settings: Any) -> Tensor:
    return _of_tensors(*tensors_and_settings).contiguous()


def _backward(dy: Tensor, *tensors_and_settings: Any) -> tuple[Tensor, ...]:
    """Works the output out again, as a memory-efficient attention does, and differentiates that. Gradients of sinks that are
    not there are empty."""
    tensors, settings = tensors_and_settings[:5], tensors_and_settings[5:]
    n_given = 3 if tensors[3] is None else 5

    rest: Any = (*tensors[n_given:], *settings)
    gradients = torch.func.vjp(lambda *given: _of_tensors(*given, *rest), *tensors[:n_given])[1](dy)
    return *(d.contiguous() for d in gradients), *(dy.new_empty(0) for _ in tensors[n_given:])


def _fake(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return q.new_empty(*q.shape[:3], v.shape[-1])


def _fake_backward(dy: Tensor, *tensors_and_settings: Any) -> tuple[Tensor, ...]:
    return tuple(dy.new_empty(0) if t is None else dy.new_empty(t.shape) for t in tensors_and_settings[:5])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, documents, ctx.window_size, ctx.sink_size, ctx.first = inputs
    ctx.save_for_backward(*tensors, *documents)


def _differentiate(backward: Any, ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    tensors, documents = saved[:5], list(saved[5:])
    gradients = backward(dy, *tensors, documents, ctx.window_size, ctx.sink_size, ctx.first)
    of_tensors = (None if t is None else d for t, d in zip(tensors, gradients, strict=True))
    return (*of_tensors, [None] * len(documents), None, None, None)


_ARGUMENTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? sink_k, Tensor? sink_v, Tensor[] documents, "
    "int window_size, int sink_size, int first"
)
blocked = Operation(
    "window_attention",
    f"({_ARGUMENTS}) -> Tensor",
    _forward,
    f"(Tensor dy, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _save,
    _differentiate,
    plain=_of_tensors,
)
blocked.fake(_fake, _fake_backward)


class _Blocks(NamedTuple):
    """How the queries are cut. Every block reads one span of keys: its own and `reach` before; positions count from query 0."""

    n: int
    size: int
    reach: int
    n_past: int  # keys before query 0

    def queries(self, device: torch.device) -> Tensor:
        """Position of every query, (n, Q, 1)."""
        return torch.arange(self.n * self.size, device=device).view(self.n, self.size, 1)

    def keys(self, device: torch.device) -> Tensor:
        """Position of every key of every span, (n, 1, S)."""
        begin_n = torch.arange(self.n, device=device) * self.size - self.reach
        return begin_n[:, None, None] + torch.arange(self.reach + self.size, device=device)


_Sinks = tuple[Tensor, Tensor] | None
"""Keys and values to put before each span, (B, c, s, G, K)."""


def _one_document(
    blocks: _Blocks, window_size: int, sink_size: int, first: int, sinks: _Sinks, k: Tensor, v: Tensor
) -> tuple[Tensor, _Sinks]:
    """What each query sees, (n, Q, s + S), and the sinks of the one document before each span."""
    query, key = blocks.queries(k.device), blocks.keys(k.device)
    start = -blocks.n_past - first  # where the document begins
    seen = (key <= query) & (key >= -blocks.n_past) & ((query - key < window_size) | (key < start + sink_size))
    if sink_size == 0:
        return seen, None
    if sinks is not None:
        k, v = torch.cat([sinks[0], k[:, :sink_size]], 1), torch.cat([sinks[1], v[:, :sink_size]], 1)
    k, v = (t[:, None, :sink_size].expand(-1, blocks.n, -1, -1, -1) for t in (k, v))
    sink = start + torch.arange(k.shape[2], device=k.device)
    outside = sink < key[:, :, :1].clamp(min=-blocks.n_past)  # those inside a span are there already
    return torch.cat([outside.expand(-1, blocks.size, -1), seen], 2), (k, v)


def _packed(
    blocks: _Blocks, window_size: int, sink_size: int, documents: _Documents, fill: int, k: Tensor, v: Tensor
) -> tuple[Tensor, _Sinks]:
    """The same for packed documents, (B, n, Q, s + S)."""
    query, key = blocks.queries(k.device), blocks.keys(k.device)
    # What fills the last block is of no document; its outputs are cut off, and its keys come after every query.
    run_BS = F.pad(documents.run_BS, (0, fill), value=-1)
    position_BS, start_BS = F.pad(documents.position_BS, (0, fill)), F.pad(documents.start_BS, (0, fill))
    run_query, at = run_BS[:, query], key.clamp(min=0)
    seen = (key <= query) & (key >= 0) & ((query - key < window_size) | (position_BS[:, at] < sink_size))
    seen = seen & (run_BS[:, at] == run_query)
    if sink_size == 0:
        return seen, None
    # One document at most has queries in a block and begins before its span: that of the block's first query.
    sink_BcS = start_BS[:, :: blocks.size].unsqueeze(2) + torch.arange(sink_size, device=k.device)
    outside = (sink_BcS < key[:, 0, :1]).unsqueeze(2)
    sink_BcS = sink_BcS.clamp(max=run_BS.shape[1] - 1)
    row = torch.arange(run_BS.shape[0], device=k.device)[:, None, None]
    outside = outside & (run_BS[row, sink_BcS].unsqueeze(2) == run_query)
    return torch.cat([outside, seen], 3), (k[row, sink_BcS], v[row, sink_BcS])


def _spans(x_BSGK: Tensor, blocks: _Blocks) -> Tensor:
    """The span of keys of each block, overlapping, (B, n, S, G, K). Before the first key there are zeros, which nobody sees;
    keys that are too old for all are left out."""
    padded = F.pad(x_BSGK, (0, 0, 0, 0, blocks.reach - blocks.n_past, 0))
    return padded.unfold(1, blocks.reach + blocks.size, blocks.size).permute(0, 1, 4, 2, 3)
