"""Sparse attention: Eq. (9) by hand and by counting, and every fast form against the definition, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ripstop.ops import compressed_attention, selected_attention
from ripstop.ops.block_layout import CompressedLayout, Layout
from ripstop.ops.segments import Segments
from ripstop.ops.softmax_attention import attention
from ripstop.ops.sparse_attention import (
    NOWHERE,
    Blocks,
    Documents,
    block_mass,
    compressed_attention_reference,
    compressed_starts,
    importance_reference,
    position_of,
    select_reference,
    selected_attention_reference,
)

SIZES = [Blocks(8, 4, 16, 4), Blocks(4, 4, 8, 3, 1, 1), Blocks(12, 4, 8, 5, 2, 2), Blocks(6, 3, 3, 40, 0, 1)]
PAPER = Blocks(32, 16, 64, 16)


@pytest.fixture(autouse=True)
def _exact() -> None:
    torch.manual_seed(0)


def _randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def _documents(n_time: int) -> Documents:
    """Two rows: documents with one of a single token, and padding before, between and behind."""
    numbers_BT = torch.zeros(2, n_time, dtype=torch.long)
    numbers_BT[0, : n_time // 3] = 1
    numbers_BT[0, n_time // 3] = 2
    numbers_BT[0, n_time // 3 + 1 :] = 3
    numbers_BT[1, 2 : n_time // 2] = 1
    numbers_BT[1, n_time // 2 : n_time - 3] = 2
    documents = Documents.of(Segments.of(numbers_BT))
    assert documents is not None
    return documents


CASES = [
    # new tokens, tokens before them, packed, groups, heads a group
    (77, 0, False, 2, 2),
    (77, 0, True, 2, 3),
    (20, 57, False, 1, 2),
    (1, 30, False, 2, 2),
    (5, 0, True, 1, 1),
]


@pytest.mark.parametrize("blocks", SIZES, ids=str)
@pytest.mark.parametrize(("n_time", "n_past", "packed", "n_groups", "n_heads"), CASES)
def test_the_compressed_branch_and_what_it_selects(
    blocks: Blocks, n_time: int, n_past: int, packed: bool, n_groups: int, n_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = _documents(n_time) if packed else None
    n_compressed = n_time // blocks.compress_stride + 2 if packed else blocks.n_compressed(n_past + n_time)
    q, k = _randn(2, n_time, n_groups * n_heads, 6), _randn(2, n_compressed, n_groups, 6)
    v = _randn(2, n_compressed, n_groups, 5)
    y, weights = compressed_attention_reference(q, k, v, blocks, n_past, documents)
    importance = importance_reference(weights, n_groups, blocks, n_past, documents)
    ids = select_reference(importance, blocks, position_of(n_time, n_past, documents, q.device))
    of_ids = importance.gather(-1, ids.clamp(min=0).long()).masked_fill(ids < 0, 0)
    dy, d_importance = torch.randn_like(y), torch.randn_like(of_ids)
    wanted = torch.autograd.grad([y, of_ids], [q, k, v], [dy, d_importance], allow_unused=True)
    for most in (1, compressed_attention.MOST_SCORES):  # 16 queries at a time, and all at once
        monkeypatch.setattr(compressed_attention, "MOST_SCORES", most)
        fast = compressed_attention.compress_and_select(q, k, v, blocks, n_past, documents)
        torch.testing.assert_close(fast[0], y)
        assert torch.equal(fast[1], ids)
        torch.testing.assert_close(fast[2], of_ids)
        got = torch.autograd.grad([fast[0], fast[2]], [q, k, v], [dy, d_importance])
        for a, b, x in zip(got, wanted, (q, k, v), strict=True):
            torch.testing.assert_close(a, torch.zeros_like(x) if b is None else b)


@pytest.mark.parametrize("blocks", SIZES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n_time", "n_past", "packed", "n_groups", "n_heads"), CASES)
def test_the_selected_branch(
    blocks: Blocks, n_time: int, n_past: int, packed: bool, n_groups: int, n_heads: int, weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    documents, n_keys = _documents(n_time) if packed else None, n_past + n_time
    q, k, v = _randn(2, n_time, n_groups * n_heads, 6), _randn(2, n_keys, n_groups, 6), _randn(2, n_keys, n_groups, 5)
    importance = torch.rand(2, n_time, n_groups, blocks.n_selectable(n_keys))
    ids = select_reference(importance, blocks, position_of(n_time, n_past, documents, q.device))
    weights = torch.rand(ids.shape, dtype=torch.float64).masked_fill_(ids < 0, 0).requires_grad_() if weighted else None
    inputs = [q, k, v] if weights is None else [q, k, v, weights]
    y = selected_attention_reference(q, k, v, ids, blocks.select_block, documents, weights)
    dy = torch.randn_like(y)
    wanted = torch.autograd.grad(y, inputs, dy)
    if weights is not None:
        wanted = (*wanted[:3], wanted[3].masked_fill(ids < 0, 0))

    def check(fast: Tensor) -> None:
        torch.testing.assert_close(fast, y)
        for a, b in zip(torch.autograd.grad(fast, inputs, dy), wanted, strict=True):
            torch.testing.assert_close(a, b)

    for most in (1, selected_attention.MOST_NUMBERS):
        monkeypatch.setattr(selected_attention, "MOST_NUMBERS", most)
        check(selected_attention.block_major(q, k, v, ids, blocks.select_block, documents, weights))
    if not weighted:
        check(selected_attention.dense(q, k, v, ids, blocks.select_block, documents))
    if n_time == 1:
        k_read, v_read = selected_attention.gathered(k, v, ids, blocks.select_block)
        n_blocks = min(blocks.n_selected, n_past // blocks.select_block + 1)
        assert k_read.shape[1] == (n_blocks - 1) * blocks.select_block + n_past % blocks.select_block + 1
        if weights is None:
            check(attention(q, k_read, v_read, causal=False))
        else:
            check(selected_attention.weighted_step(q, k_read, v_read, blocks.select_block, weights))


def test_the_form_follows_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for form in ("dense", "block_major"):
        monkeypatch.setattr(selected_attention, form, lambda *_, form=form: called.append(form))
    for n_keys in (selected_attention.DENSE_KEYS, selected_attention.DENSE_KEYS + 1):
        k = torch.empty(1, n_keys, 1, 2)
        selected_attention.selected_attention(torch.empty(1, 2, 1, 2), k, k, torch.zeros(1, 2, 1, 1), 8)
    assert called == ["dense", "block_major"]


def test_weights_of_equation_9() -> None:
    assert PAPER.overlap == [1, 2, 2, 2, 1]
    assert Blocks(4, 4, 4, 1).overlap == [1]
    assert Blocks(64, 16, 16, 4).overlap == [1, 1, 1, 1]


def test_weights_of_equation_9_count_overlaps() -> None:
    """Brute force over random sizes: a compressed block counts as many strides as it shares with the selection block."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(30):
        d, a, b = (int(torch.randint(1, 6, (), generator=generator)) for _ in range(3))
        blocks = Blocks(a * d, d, b * d, 1)
        i, before = a, a - 1  # a selection block that lies far enough from the start
        tokens = set(range(i * blocks.select_block, (i + 1) * blocks.select_block))
        counted = []
        for k in range(a + b - 1):
            first = (i * b + k - before) * d
            counted.append(len(tokens & set(range(first, first + blocks.compress_block))) // d)
        assert blocks.overlap == counted


def test_importance_by_hand() -> None:
    """l = 8, d = 4, l' = 8: block 1 holds tokens 8 to 15; compressed blocks 1 (4 to 11), 2 (8 to 15), 3 (12 to 19) name it."""
    blocks = Blocks(8, 4, 8, 2)
    weights_BTHN = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).expand(1, 24, 2, 5)
    importance = importance_reference(weights_BTHN, 1, blocks)
    torch.testing.assert_close(importance[0, 23, 0], 2 * torch.tensor([2 * 0.1 + 0.2, 0.2 + 0.6 + 0.15, 0.15 + 0.5]))


def test_all_selected_is_dense_attention() -> None:
    q, k, v = _randn(2, 50, 4, 6), _randn(2, 50, 2, 6), _randn(2, 50, 2, 6)
    ids = torch.arange(7, dtype=torch.int32).expand(2, 50, 2, 7)
    ids = torch.where(ids > torch.arange(50)[:, None, None] // 8, -1, ids)
    for form in (selected_attention_reference, selected_attention.block_major, selected_attention.dense):
        torch.testing.assert_close(form(q, k, v, ids, 8), attention(q, k, v))


def test_heads_of_a_group_select_together_and_groups_apart() -> None:
    blocks = Blocks(4, 4, 4, 3, 1, 1)
    q, k = torch.randn(1, 40, 4, 8), torch.randn(1, 10, 2, 8)
    _, ids, _ = compressed_attention.compress_and_select(q, k, k, blocks)
    assert ids.shape == (1, 40, 2, 3) and not torch.equal(ids[:, :, 0], ids[:, :, 1])
    # Eq. (10): what counts is the sum over a group's heads, so their order does not.
    _, swapped, _ = compressed_attention.compress_and_select(q[:, :, [1, 0, 3, 2]], k, k, blocks)
    assert torch.equal(ids, swapped)
    _, one_head, _ = compressed_attention.compress_and_select(q[:, :, [0, 0, 2, 2]], k, k, blocks)
    assert not torch.equal(ids, one_head)


def test_equal_blocks_are_taken_in_order() -> None:
    importance = torch.zeros(1, 1, 1, 9)
    assert compressed_attention.select(importance, Blocks(4, 4, 4, 5, 1, 2), torch.tensor([8])).tolist() == [
        [[[0, 1, 2, 7, 8]]]
    ]
    importance[..., [3, 5, 6]] = torch.tensor([0.5, 0.7, 0.5])
    assert compressed_attention.select(importance, Blocks(4, 4, 4, 5, 1, 2), torch.tensor([8])).tolist() == [
        [[[0, 3, 5, 7, 8]]]
    ]
    # Fewer blocks than places; blocks after the query's own are none.
    assert compressed_attention.select(importance, Blocks(4, 4, 4, 5, 1, 2), torch.tensor([2])).tolist() == [
        [[[0, 1, 2, 9, 9]]]
    ]


def test_no_gradient_reaches_what_comes_later() -> None:
    """At the edges of blocks, exactly 0, through both branches; the choice of blocks included, which only looks back."""
    blocks, n_time = Blocks(8, 4, 8, 3, 1, 1), 40
    q, k, v = _randn(1, n_time, 2, 4), _randn(1, n_time, 1, 4), _randn(1, n_time, 1, 4)
    y, ids, _ = compressed_attention.compress_and_select(
        q, k.unfold(1, 8, 4).mean(-1), v.unfold(1, 8, 4).mean(-1), blocks
    )  # fmt: skip
    y = y + selected_attention.block_major(q, k, v, ids, 8)
    for t in (0, 6, 7, 8, 15, 16, 23, 24, 39):
        for gradient in torch.autograd.grad(y[0, t].sum(), [k, v], retain_graph=True):
            assert not gradient[:, t + 1 :].any()
        later = k.detach().clone()
        later[:, t + 1 :] = torch.randn_like(later[:, t + 1 :])
        _, other, _ = compressed_attention.compress_and_select(
            q, later.unfold(1, 8, 4).mean(-1), v.unfold(1, 8, 4).mean(-1), blocks
        )
        assert torch.equal(ids[:, : t + 1], other[:, : t + 1])


def test_mass_of_blocks_by_hand() -> None:
    q, k = torch.zeros(1, 5, 2, 4), torch.zeros(1, 5, 1, 4)  # all tokens alike
    mass = block_mass(q, k, 2)[0, :, 0]
    wanted = 2 * torch.tensor([[1, 0, 0], [1, 0, 0], [2 / 3, 1 / 3, 0], [1 / 2, 1 / 2, 0], [2 / 5, 2 / 5, 1 / 5]])
    torch.testing.assert_close(mass, wanted)
    documents = Documents.of(Segments.of(torch.tensor([[1, 1, 2, 2, 2]])))
    torch.testing.assert_close(block_mass(q, k, 2, documents)[0, :, 0], torch.cat([wanted[:2], wanted[:3]]))


def test_documents_laid_apart() -> None:
    documents = Documents.of(Segments.of(torch.tensor([[1, 1, 1, 1, 1, 2, 3, 3], [1, 1, 1, 1, 1, 1, 1, 1]])))
    assert documents is not None
    layout = Layout.of(documents, 4)
    assert layout.place_BT.tolist() == [[0, 1, 2, 3, 4, 8, 12, 13], [0, 1, 2, 3, 4, 5, 6, 7]]
    assert layout.start_BS[0].tolist() == [0, 0, 0, 0, 0, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12] and layout.n_places == 16
    x = torch.randn(2, 8, 3)
    spread = layout.spread(x)
    assert torch.equal(layout.collect(spread), x) and not spread[0, [5, 6, 7, 9, 10, 11, 14, 15]].any()
    starts = compressed_starts(documents, Blocks(4, 2, 4, 1))
    assert starts.tolist() == [[0, *[NOWHERE] * 5], [0, 2, 4, *[NOWHERE] * 3]]
    compressed = CompressedLayout.of(layout, starts, 2)
    x = torch.randn(2, 6, 3)
    assert torch.equal(compressed.spread(x)[1, :3], x[1, :3])
    collected = compressed.collect(compressed.spread(x))
    assert torch.equal(collected[1, :3], x[1, :3]) and not collected[0, 1:].any()


def test_memory_does_not_grow_with_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of as many numbers as there are pairs is made, forward and backward."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.numel())
            return result

    monkeypatch.setattr(compressed_attention, "MOST_SCORES", 2**12)
    monkeypatch.setattr(selected_attention, "MOST_NUMBERS", 2**15)
    blocks, n_time = Blocks(8, 4, 16, 4), 4096
    q, k, v = (torch.randn(1, n_time, 1, 4, requires_grad=True) for _ in range(3))
    with Watch():
        y, ids, _ = compressed_attention.compress_and_select(q, k[:, ::4], v[:, ::4], blocks)
        y = y + selected_attention.selected_attention(q, k, v, ids, 16)
        y.sum().backward()
    assert largest < n_time * n_time / 4 / 8  # scores with all compressed blocks would be eight times as many
