"""Attention: values on paper, masks written out, SDPA against the explicit form, blocks of a sliding window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ripstop.ops.segments import Segments
from ripstop.ops.softmax_attention import attention, attention_reference, visible
from ripstop.ops.window_attention import window_attention, window_attention_reference

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")


def _qkv(n_queries: int, n_keys: int | None = None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n_queries)
    shapes = [(2, n_queries, 4, 6), (2, n_keys or n_queries, 2, 6), (2, n_keys or n_queries, 2, 3)]
    return [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]


def _same(got: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    dy = torch.randn_like(wanted)
    for a, b in zip(torch.autograd.grad(got, inputs, dy), torch.autograd.grad(wanted, inputs, dy), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_visible_by_hand() -> None:
    assert visible(2, 4).long().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert visible(4, 4, window_size=2, sink_size=1).long().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 1, 1],
    ]
    segments = Segments.of(torch.tensor([[1, 1, 2, 2, 2, 0]]))
    assert visible(6, 6, segments=segments, window_size=2, sink_size=1)[0, 0].long().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert visible(6, 6, causal=False, segments=segments)[0, 0, 0].long().tolist() == [1, 1, 0, 0, 0, 0]


def test_reference_by_hand() -> None:
    # Scores 0 and ln 3 give the weights 1/4 and 3/4; head 1 shares the key of head 0.
    q = torch.tensor([1.0, 2.0]).view(1, 1, 2, 1)
    k, v = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1) * torch.log(torch.tensor(3.0)), torch.tensor([4.0, 8.0]).view(1, 2, 1, 1)
    y = attention_reference(q, k, v, visible(1, 2))
    torch.testing.assert_close(y.flatten(), torch.tensor([7.0, 0.1 * 4 + 0.9 * 8]))


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (1, 9), (5, 9), (63, 63), (64, 64), (100, 100)])
@pytest.mark.parametrize("causal", [True, False])
def test_sdpa_equals_the_reference(n_queries: int, n_keys: int, causal: bool) -> None:
    inputs = _qkv(n_queries, n_keys)
    _same(attention(*inputs, causal), attention_reference(*inputs, visible(n_queries, n_keys, causal)), inputs)
    segments = Segments.of(torch.arange(n_keys).expand(2, -1) // 7)
    seen = visible(n_queries, n_keys, causal, segments)
    _same(attention(*inputs, causal, segments), attention_reference(*inputs, seen), inputs)


def test_scale_is_used() -> None:
    inputs = _qkv(5)
    torch.testing.assert_close(attention(*inputs, scale=0.3), attention_reference(*inputs, visible(5, 5), scale=0.3))


@pytest.mark.parametrize("n_time", [1, 63, 64, 100, 300])
@pytest.mark.parametrize(("window_size", "sink_size"), [(1, 0), (1, 2), (5, 1), (33, 0), (64, 7), (150, 3), (400, 1)])
@pytest.mark.parametrize("with_segments", [False, True])
def test_blocks_equal_the_reference(n_time: int, window_size: int, sink_size: int, with_segments: bool) -> None:
    inputs = _qkv(n_time)
    segments = None
    if with_segments:  # documents longer and shorter than a block, and padding
        segments = Segments.of(torch.stack([torch.arange(n_time) // 13 + 1, (torch.arange(n_time) > 20).long() * 2]))
    arguments = (*inputs, window_size, sink_size, segments)
    _same(window_attention(*arguments), window_attention_reference(*arguments), inputs)


@pytest.mark.parametrize("length", [1, 2, 5, 40, 90])
@pytest.mark.parametrize("n_time", [1, 50, 130])
def test_window_after_a_past_equals_the_end_of_the_whole(length: int, n_time: int) -> None:
    window_size, sink_size = 11, 4
    q, k, v = _qkv(length + n_time)
    n_sinks = min(sink_size, length)
    first = max(n_sinks, length - window_size + 1)
    arguments = (q[:, length:], k[:, first:], v[:, first:], window_size, sink_size, None)
    past = ((k[:, :n_sinks], v[:, :n_sinks]), first)
    for op in (window_attention, window_attention_reference):
        whole = window_attention_reference(q, k, v, window_size, sink_size)[:, length:]
        _same(op(*arguments, *past), whole, [q, k, v])


def test_long_windows_build_no_square_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    import ripstop.ops.window_attention as module

    sizes, true = [], module.sdpa

    def recording(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
        sizes.append(seen.numel())
        return true(q, k, v, seen)

    monkeypatch.setattr(module, "sdpa", recording)
    n_time = 4096
    q, k, v = torch.randn(1, n_time, 1, 8), torch.randn(1, n_time, 1, 8), torch.randn(1, n_time, 1, 8)
    module.window_attention(q, k, v, 128, 4)
    assert sizes == [n_time * (128 + 127 + 4)]
