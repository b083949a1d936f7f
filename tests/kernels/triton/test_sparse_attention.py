"""Natively sparse attention by Triton: outputs, gradients and selected blocks against the definition, in float64."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from ripstop.kernels.triton import (
    block_selection,
    partial_softmax,
    selected_backward,
    selected_forward,
    sparse_attention,
    tiles,
)
from ripstop.kernels.triton.gated_sum import gated_sum
from ripstop.kernels.triton.window_attention import window, window_attention
from ripstop.ops import compressed_attention as torch_form
from ripstop.ops import sparse_attention as definition
from ripstop.ops.segments import Segments
from ripstop.ops.sparse_attention import Blocks, Documents
from ripstop.ops.window_attention import window_attention_reference

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")
DTYPES = [torch.float32] if os.environ.get("TRITON_INTERPRET") == "1" else [torch.float32, torch.bfloat16]


class Case(NamedTuple):
    """New tokens, tokens before them, lengths of packed documents, groups, heads a group, widths of keys and values."""

    n_time: int
    n_past: int
    documents: tuple[int, ...]
    groups: int
    heads: int
    k: int
    p: int
    blocks: Blocks


CASES = {
    "documents": Case(20, 0, (3, 1, 16), 1, 3, 24, 16, Blocks(4, 2, 4, 3, 1, 1)),
    "past": Case(6, 42, (), 2, 2, 40, 24, Blocks(8, 4, 16, 2, 1, 1)),
    "one token": Case(1, 70, (), 2, 4, 16, 32, Blocks(8, 4, 16, 3)),
    "blocks wider than a tile": Case(2, 137, (), 1, 16, 16, 16, Blocks(32, 16, 64, 2, 1, 1)),
    "several tiles": Case(14, 120, (), 1, 5, 16, 8, Blocks(4, 2, 16, 3, 0, 1)),
    "shorter than a block": Case(5, 0, (), 2, 1, 16, 16, Blocks(8, 8, 16, 4, 1, 2)),
}


class Inputs:
    def __init__(self, case: Case, dtype: torch.dtype, device: str):
        generator = torch.Generator().manual_seed(0)

        def tensor(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device=device, dtype=dtype).requires_grad_()

        n_keys, n_heads = case.n_past + case.n_time, case.groups * case.heads
        numbers = [i for i, n in enumerate(case.documents) for _ in range(n)]
        self.segments = Segments.of(torch.tensor([numbers], device=device)) if numbers else None
        self.documents = Documents.of(self.segments)
        self.case, self.dtype = case, dtype
        n_compressed = case.blocks.n_compressed(n_keys)
        if self.documents is not None:
            n_compressed = definition.compressed_starts(self.documents, case.blocks).shape[1]
        self.q = tensor(1, case.n_time, n_heads, case.k)
        self.compressed = tensor(1, n_compressed, case.groups, case.k), tensor(1, n_compressed, case.groups, case.p)
        self.keys = tensor(1, n_keys, case.groups, case.k), tensor(1, n_keys, case.groups, case.p)
        self.dy = tensor(1, case.n_time, n_heads, case.p).detach()


def _exact(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def _near(got: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    """By the norm, or 1 where it is less: where a single key is seen the exact gradient is 0, and rounding leaves a trace."""
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert got.shape == wanted.shape and got.dtype == dtype
    assert (got.double() - wanted).norm() <= tolerance * max(wanted.norm().item(), 1.0)


def _same(y: Tensor, exact: Tensor, inputs: list[Tensor], exact_inputs: list[Tensor], dy: Tensor) -> None:
    """Values and gradients."""
    _near(y, exact, dy.dtype)
    wanted = torch.autograd.grad(exact, exact_inputs, dy.double(), retain_graph=True)
    for got, of in zip(torch.autograd.grad(y, inputs, dy, retain_graph=True), wanted, strict=True):
        _near(got, of, dy.dtype)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def _wanted(x: Inputs) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """y, selected blocks, importance of all, and the inputs."""
    case, inputs = x.case, _exact(x.q, *x.compressed)
    y, weights = definition.compressed_attention_reference(*inputs, case.blocks, case.n_past, x.documents)
    importance = definition.importance_reference(weights, case.groups, case.blocks, case.n_past, x.documents)
    position = definition.position_of(case.n_time, case.n_past, x.documents, x.q.device)
    return y, definition.select_reference(importance, case.blocks, position), importance, inputs


def test_the_compressed_branch_and_what_it_selects(case: Case, dtype: torch.dtype, device: str) -> None:
    x = Inputs(case, dtype, device)
    y, ids, importance = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks, case.n_past, x.documents)
    exact, wanted, of_all, inputs = _wanted(x)
    assert torch.equal(ids, wanted)
    wanted_importance = of_all.gather(-1, wanted.clamp(min=0).long()).masked_fill(wanted < 0, 0)
    _near(importance, wanted_importance, dtype)
    _same(y, exact, [x.q, *x.compressed], inputs, x.dy)
    # Importance has a gradient as well.
    d_importance = torch.randn(importance.shape, generator=torch.Generator().manual_seed(1)).to(importance)
    got = torch.autograd.grad(importance, [x.q, x.compressed[0]], d_importance)
    for d, of in zip(got, torch.autograd.grad(wanted_importance, inputs[:2], d_importance.double()), strict=True):
        _near(d, of, dtype)


def test_the_selected_branch(case: Case, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selected_backward, "FEW_PAIRS", 4)  # a block's queries are several items
    x = Inputs(case, dtype, device)
    ids = _wanted(x)[1]
    y = sparse_attention.selected_attention(x.q, *x.keys, ids, case.blocks.select_block, x.documents)
    inputs = _exact(x.q, *x.keys)
    exact = definition.selected_attention_reference(*inputs, ids, case.blocks.select_block, x.documents)
    _same(y, exact, [x.q, *x.keys], inputs, x.dy)


LONG = Case(90, 0, (40, 1, 49), 1, 2, 16, 16, Blocks(4, 2, 4, 3))


@pytest.mark.parametrize(
    ("name", "window_size"),
    [
        ("several tiles", 0),
        ("several tiles", 1),
        ("several tiles", 100),  # whole tiles between others that are seen in part
        ("one token", 0),
        ("one token", 37),
        ("long documents", 0),  # tiles of keys that are seen whole, and by no query of the next document
        ("long documents", 37),
    ],
)
def test_the_window(name: str, window_size: int, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if window_size == 100:
        monkeypatch.setattr(partial_softmax, "_processors", lambda device: 1)  # one program for all of them
    x = Inputs(CASES.get(name, LONG), dtype, device)
    start = None if x.segments is None else x.segments.start_BT
    y = window_attention(x.q, *x.keys, window_size, start)
    inputs = _exact(x.q, *x.keys)
    exact = window_attention_reference(*inputs, window_size or 10**6, 0, x.segments)
    _same(y, exact, [x.q, *x.keys], inputs, x.dy)


def test_a_chunk_of_queries_at_a_time(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are never held for all queries: the buffer is of so many bytes, and the blocks are the same."""
    case = CASES["several tiles"]
    x = Inputs(case, torch.float32, device)
    whole = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks, case.n_past)
    held = []
    empty = torch.empty
    monkeypatch.setattr(block_selection, "BUFFER", 1)
    monkeypatch.setattr(block_selection.torch, "empty", lambda *shape, **of: held.append(shape) or empty(*shape, **of))
    in_chunks = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks, case.n_past)
    buffers = [shape for shape in held if shape[-1] == x.compressed[0].shape[1]]
    assert len(buffers) == 1 and buffers[0][1] < case.n_time
    for a, b in zip(whole, in_chunks, strict=True):
        assert torch.equal(a, b)


def test_parts_of_a_softmax_are_the_whole(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many programs share the keys of one token, and whatever parts see nothing."""
    case = CASES["one token"]
    x, outputs = Inputs(case, torch.float32, device), []
    ids = torch.full((1, 1, case.groups, 3), -1, dtype=torch.int32, device=device)
    ids[..., 0] = 2
    for processors in (1, 64):
        monkeypatch.setattr(partial_softmax, "_processors", lambda device, n=processors: n)
        y, _, _ = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks, case.n_past)
        outputs.append((y, sparse_attention.selected_attention(x.q, *x.keys, ids, case.blocks.select_block)))
    for one, shared in zip(*outputs, strict=True):
        torch.testing.assert_close(shared, one)


def test_equal_blocks_are_taken_in_order(device: str) -> None:
    """Without scores all weigh the same but those that fewer compressed blocks overlap."""
    blocks = Blocks(4, 4, 4, 4, 1, 1)
    q, k, v = (
        torch.zeros(1, 1, 2, 16, device=device),
        torch.zeros(1, 8, 1, 16, device=device),
        torch.ones(1, 8, 1, 16, device=device),
    )
    y, ids, importance = sparse_attention.compress_and_select(q, k, v, blocks, 31)
    assert ids.tolist() == [[[[0, 1, 2, 7]]]]
    torch.testing.assert_close(importance.cpu(), torch.full((1, 1, 1, 4), 0.25))
    torch.testing.assert_close(y, torch.ones_like(y))


def test_who_sees_nothing(device: str) -> None:
    """Zeros, and no gradient: before the first block is whole, and where nothing is selected."""
    case = CASES["shorter than a block"]
    x = Inputs(case, torch.float32, device)
    assert x.compressed[0].shape[1] == 0
    y, ids, importance = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks)
    assert not y.any() and not importance.any()
    nothing = sparse_attention.selected_attention(x.q, *x.keys, torch.full_like(ids, -1), case.blocks.select_block)
    assert not nothing.any()
    for d in torch.autograd.grad(y.sum() + nothing.sum(), [x.q, *x.keys]):
        assert not d.any()


def test_what_is_not_seen_is_not_read(device: str) -> None:
    """NaN in keys and values behind the queries and in blocks that nobody selected: as a cache has them."""
    case = CASES["past"]
    x = Inputs(case, torch.float32, device)
    ids = torch.tensor([0, 2], dtype=torch.int32, device=device).expand(1, case.n_time, case.groups, 2)
    seen, room = [t.detach().clone() for t in x.keys], 9
    cached = [torch.full((1, t.shape[1] + room, *t.shape[2:]), float("nan"), device=device) for t in seen]
    for cache, t in zip(cached, seen, strict=True):
        t[:, 16:32] = float("nan")
        cache[:, : t.shape[1]] = t
    y = sparse_attention.selected_attention(x.q, *seen, ids, 16)
    views = [cache[:, : t.shape[1]] for cache, t in zip(cached, seen, strict=True)]
    assert torch.isfinite(y).all() and torch.equal(y, sparse_attention.selected_attention(x.q, *views, ids, 16))


def test_a_block_that_begins_before_the_document_is_read_from_there_on(device: str) -> None:
    x = Inputs(CASES["past"]._replace(n_time=2, n_past=18), torch.float32, device)
    ids = torch.tensor([0, 1], dtype=torch.int32, device=device).expand(1, 2, 2, 2).contiguous()
    start, scale = torch.full((1, 2), 5, dtype=torch.int32, device=device), x.case.k**-0.5
    y, lse = selected_forward.forward(x.q, *x.keys, ids, start, 16, 18, scale)
    inputs = _exact(x.q, *x.keys)
    of = [inputs[0], *(t[:, 5:] for t in inputs[1:])]
    exact = window_attention_reference(*of, 100)
    _near(y, exact, torch.float32)
    gradients = selected_backward.backward(x.dy, y, lse, x.q, *x.keys, ids, start, 16, 18, scale)
    for got, wanted in zip(gradients, torch.autograd.grad(exact, inputs, x.dy.double()), strict=True):
        _near(got, wanted, torch.float32)


def test_the_same_input_gives_the_same_bits(device: str) -> None:
    """On a GPU, where programs run in any order, with more of them than it holds."""
    case = CASES["past"]._replace(n_past=0, n_time=6 if device == "cpu" else 3000)
    runs = []
    for _ in range(2):
        x = Inputs(case, torch.float32, device)
        y, ids, _ = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks)
        y = y + sparse_attention.selected_attention(x.q, *x.keys, ids, case.blocks.select_block)
        runs.append(torch.autograd.grad(y, [x.q, *x.compressed, *x.keys], x.dy))
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)


def test_items_are_every_pair_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selected_backward, "FEW_PAIRS", 3)
    generator = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randperm(5, generator=generator)[:3].sort().values for _ in range(2 * 7 * 2)]).view(2, 7, 2, 3)
    ids[0, :2, :, 1:] = -1
    items = selected_backward.Items.of(ids.to(device=device, dtype=torch.int32), 5)
    found, last = [], -1
    for w in range(len(items.block_w)):
        block, begin, end = (int(t[w]) for t in (items.block_w, items.begin_w, items.end_w))
        assert end - begin <= 3 and (begin == end or block >= last)
        last = max(last, block)
        found += [(block // 5 // 2, int(items.time_p[pair]), block // 5 % 2, block % 5) for pair in range(begin, end)]
    wanted = [(b, t, g, int(i)) for b in range(2) for t in range(7) for g in range(2) for i in ids[b, t, g] if i >= 0]
    assert len(found) == len(set(found)) and set(found) == set(wanted)
    counts = torch.tensor([sum(1 for b, _, g, i in wanted if (b * 2 + g) * 5 + i == n) for n in range(20)])
    assert items.until_b.tolist() == (-(-counts // 3)).cumsum(0).tolist()


@pytest.mark.parametrize(("width", "wanted"), [(8, (16, 0)), (24, (16, 16)), (64, (64, 0)), (120, (128, 0)), (192, (128, 64))])
def test_a_width_in_tiles(width: int, wanted: tuple[int, int]) -> None:
    found = tiles.Widths.of(torch.empty(1, width), torch.empty(1, 24))
    assert found[:2] in (wanted, (32, 0)) and width <= found.K1 + found.K2 and found.PP == 32


def test_the_gated_sum(dtype: torch.dtype, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    gates, *branches = (
        torch.randn(2, 5, 3, n, generator=generator).to(device=device, dtype=dtype).requires_grad_() for n in (3, 24, 24, 24)
    )
    exact_gates, *exact = _exact(gates, *branches)
    wanted = sum(exact_gates[..., i : i + 1] * y for i, y in enumerate(exact))
    dy = torch.randn(2, 5, 3, 24, generator=generator).to(device=device, dtype=dtype)
    _same(gated_sum(gates, *branches), wanted, [gates, *branches], [exact_gates, *exact], dy)


def test_what_a_compiler_is_told(device: str) -> None:
    """Shapes, strides and gradients of the registered operations."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for name in ("documents", "past"):
        case = CASES[name]._replace(n_time=5, documents=(1, 4) if CASES[name].documents else ())
        x = Inputs(case, torch.float32, device)
        of = (*(x.documents or (None, None)),)
        ids = torch.zeros(1, 5, case.groups, 2, dtype=torch.int32, device=device)
        importance = torch.rand(1, 5, case.groups, 2, device=device)
        settings = (*of, list(case.blocks), case.n_past)
        opcheck(sparse_attention.compressed.registered, (x.q, *x.compressed, *settings), test_utils=checks)
        opcheck(
            sparse_attention.with_gradient.registered, (importance, x.q, x.compressed[0], ids, *settings), test_utils=checks
        )
        opcheck(sparse_attention.selected.registered, (x.q, *x.keys, ids, *of, case.blocks.select_block), test_utils=checks)
        opcheck(window.registered, (x.q, *x.keys, None, 3), test_utils=checks)


def test_the_torch_form_agrees(device: str) -> None:
    """The other fast form selects the same blocks, and weighs them the same."""
    case = CASES["past"]
    x = Inputs(case, torch.float32, device)
    ours = sparse_attention.compress_and_select(x.q, *x.compressed, case.blocks, case.n_past)
    theirs = torch_form.compress_and_select(x.q, *x.compressed, case.blocks, case.n_past)
    assert torch.equal(ours[1], theirs[1])
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[2], theirs[2])
