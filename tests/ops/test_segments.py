"""Documents in a row: boundaries, positions, reversal."""

from __future__ import annotations

import torch

from ripstop.ops.segments import Segments, starts, without_padding

NUMBERS = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [0, 3, 3, 0, 3, 1, 1]])
SEGMENTS = Segments.of(NUMBERS)


def test_boundaries_positions_and_reversal_by_hand() -> None:
    assert starts(NUMBERS).long().tolist() == [[1, 0, 0, 1, 0, 1, 0], [1, 1, 0, 1, 1, 1, 0]]
    assert SEGMENTS.run_BT.tolist() == [[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 3, 4, 4]]
    assert SEGMENTS.start_BT.tolist() == [[0, 0, 0, 3, 3, 5, 5], [0, 1, 1, 3, 4, 5, 5]]
    assert SEGMENTS.end_BT.tolist() == [[2, 2, 2, 4, 4, 6, 6], [0, 2, 2, 3, 4, 6, 6]]
    assert SEGMENTS.position_BT.tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 0, 1, 0, 0, 0, 1]]
    assert SEGMENTS.reversal_BT.tolist() == [[2, 1, 0, 4, 3, 6, 5], [0, 2, 1, 3, 4, 6, 5]]


def test_offsets_are_where_each_run_begins_with_all_rows_end_to_end() -> None:
    assert SEGMENTS.offsets.tolist() == [0, 3, 5, 7, 8, 10, 11, 12, 14]
    assert Segments.of(torch.ones(2, 3, dtype=torch.long)).offsets.tolist() == [0, 3, 6]


def test_kernels_take_the_numbers_as_they_are() -> None:
    assert SEGMENTS.run_BT.dtype == SEGMENTS.offsets.dtype == torch.int32
    assert SEGMENTS.run_BT.is_contiguous() and SEGMENTS.offsets.is_contiguous()


def test_one_document_has_no_segments() -> None:
    assert Segments.of(None) is None


def test_reversal_is_its_own_inverse() -> None:
    index = SEGMENTS.reversal_BT
    assert torch.equal(index.gather(1, index), torch.arange(7).expand(2, -1))


def test_padding_is_replaced_even_where_it_is_nan_and_takes_no_gradient() -> None:
    x = torch.full((2, 7, 3), float("nan"))
    x[NUMBERS != 0] = 2.0
    x.requires_grad_()
    y = without_padding(x, SEGMENTS)
    assert y.sum() == 2.0 * 3 * (NUMBERS != 0).sum()
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx[..., 0], (NUMBERS != 0).float())
