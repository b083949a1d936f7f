"""Cross-attention: by hand, fast against slow, and a mask laid end to end."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ripstop.ops.cross_attention import Laid, cross_attention, cross_attention_reference
from ripstop.ops.segments import Segments

pytestmark = pytest.mark.usefixtures("nan_in_new_memory")
SOURCE = Segments.of(torch.tensor([[1, 1, 2, 0], [2, 2, 1, 1]]))


def _qkv(n_queries: int = 3, n_keys: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, n_queries, 4, 6), (2, n_keys, 2, 6), (2, n_keys, 2, 3)]
    return [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]


def test_reference_by_hand() -> None:
    # Scores 0, ln 3 and 100, of which the third is not seen: weights 1/4 and 3/4; the second query sees nothing.
    q = torch.tensor([[1.0], [1.0]]).view(1, 2, 1, 1)
    k = torch.tensor([0.0, math.log(3.0), 100.0]).view(1, 3, 1, 1)
    v = torch.tensor([4.0, 8.0, 1000.0]).view(1, 3, 1, 1)
    seen = torch.tensor([[True, True, False], [False, False, False]]).view(1, 1, 2, 3)
    for form in (cross_attention_reference, cross_attention):
        torch.testing.assert_close(form(q, k, v, seen).flatten(), torch.tensor([7.0, 0.0]))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_fast_equals_slow_in_values_and_gradients(rows: int, masked: bool) -> None:
    inputs = _qkv()
    seen = None
    if masked:
        seen = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]][:rows]).bool().expand(2, 1, rows, 4)
    got, wanted = cross_attention(*inputs, seen), cross_attention_reference(*inputs, seen)
    torch.testing.assert_close(got, wanted)
    dy = torch.randn_like(wanted)
    for a, b in zip(torch.autograd.grad(got, inputs, dy), torch.autograd.grad(wanted, inputs, dy), strict=True):
        torch.testing.assert_close(a, b)


def test_rows_are_laid_without_their_padding() -> None:
    laid = Laid.of(SOURCE, None)
    assert laid.key_index.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert laid.key_offsets.tolist() == [0, 3, 7] and laid.key_offsets.dtype == torch.int32
    assert laid.query_offsets is None


def test_each_document_has_its_own_source_beside_it() -> None:
    """Row 0: documents 2 and 1, then padding, which sees nothing; row 1: document 1 alone, then 3, which has no source."""
    laid = Laid.of(SOURCE, Segments.of(torch.tensor([[2, 1, 1, 0, 0], [1, 1, 3, 3, 3]])))
    assert laid.query_offsets is not None and laid.query_offsets.tolist() == [0, 1, 3, 5, 7, 10]
    assert laid.key_offsets.tolist() == [0, 1, 3, 3, 5, 5]
    assert laid.key_index.tolist() == [2, 0, 1, 6, 7]
