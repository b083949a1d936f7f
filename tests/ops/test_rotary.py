"""RoPE: by hand, and invariant where it must be."""

from __future__ import annotations

import math

import torch

from ripstop.ops.rotary import rotate


def test_by_hand() -> None:
    # K = 4, base 100: angles per position 1 and 1 / 10; pairs (x0, x2) and (x1, x3).
    x = torch.tensor([1.0, 0.0, 0.0, 2.0]).view(1, 1, 1, 4)
    y = rotate(x, torch.tensor([3]), base=100.0).flatten()
    wanted = [math.cos(3.0), -2 * math.sin(0.3), math.sin(3.0), 2 * math.cos(0.3)]
    torch.testing.assert_close(y, torch.tensor(wanted))


def test_products_depend_on_distance_only() -> None:
    q, k = torch.randn(1, 1, 1, 6, dtype=torch.float64), torch.randn(1, 1, 1, 6, dtype=torch.float64)
    near = (rotate(q, torch.tensor([7])) * rotate(k, torch.tensor([3]))).sum()
    far = (rotate(q, torch.tensor([100_004])) * rotate(k, torch.tensor([100_000]))).sum()
    torch.testing.assert_close(near, far, rtol=1e-9, atol=1e-9)


def test_positions_by_row_equal_positions_alone() -> None:
    x = torch.randn(2, 3, 2, 4)
    positions = torch.tensor([[0, 1, 2], [5, 0, 1]])
    rows = [rotate(x[i : i + 1], positions[i]) for i in range(2)]
    assert torch.equal(rotate(x, positions), torch.cat(rows))


def test_bfloat16_tells_large_positions_apart() -> None:
    x = torch.ones(1, 2, 1, 8, dtype=torch.bfloat16)
    y = rotate(x, torch.tensor([4000, 4001]))
    assert not torch.equal(y[:, 0], y[:, 1])
