"""Documents in a row: boundaries, positions, reversal."""

from __future__ import annotations

import torch

from ripstop.ops.segments import positions, reversal, run_starts, runs, starts, without_padding

SEGMENTS = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [0, 3, 3, 0, 3, 1, 1]])


def test_boundaries_positions_and_reversal_by_hand() -> None:
    assert starts(SEGMENTS).long().tolist() == [[1, 0, 0, 1, 0, 1, 0], [1, 1, 0, 1, 1, 1, 0]]
    assert runs(SEGMENTS).tolist() == [[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 3, 4, 4]]
    assert run_starts(SEGMENTS).tolist() == [[0, 0, 0, 3, 3, 5, 5], [0, 1, 1, 3, 4, 5, 5]]
    assert positions(SEGMENTS).tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 0, 1, 0, 0, 0, 1]]
    assert reversal(SEGMENTS).tolist() == [[2, 1, 0, 4, 3, 6, 5], [0, 2, 1, 3, 4, 6, 5]]


def test_reversal_is_its_own_inverse() -> None:
    index = reversal(SEGMENTS)
    assert torch.equal(index.gather(1, index), torch.arange(7).expand(2, -1))


def test_padding_is_replaced_even_where_it_is_nan_and_takes_no_gradient() -> None:
    x = torch.full((2, 7, 3), float("nan"))
    x[SEGMENTS != 0] = 2.0
    x.requires_grad_()
    y = without_padding(x, SEGMENTS)
    assert y.sum() == 2.0 * 3 * (SEGMENTS != 0).sum()
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx[..., 0], (SEGMENTS != 0).float())
