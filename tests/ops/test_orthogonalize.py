"""Singular values after the iterations, and the orthogonal matrix that they go to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ripstop.ops.orthogonalize import POLAR_EXPRESS, QUINTIC, Polynomials, newton_schulz, polar_factor

DTYPES = [torch.float32, torch.bfloat16]


def matrices_of(values: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix with these singular values, and its left and right singular vectors."""
    generator = torch.Generator().manual_seed(7)
    u, _ = torch.linalg.qr(torch.randn(rows, len(values), dtype=torch.float64, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, len(values), dtype=torch.float64, generator=generator))
    return u * values @ v.mT, u, v


@pytest.mark.parametrize(
    ("polynomials", "smallest", "band"), [(POLAR_EXPRESS, 1e-3, (0.846, 1.124)), (QUINTIC, 2e-3, (0.681, 1.203))]
)
def test_the_bands_that_are_promised_hold_and_are_reached(
    polynomials: Polynomials, smallest: float, band: tuple[float, float]
) -> None:
    """Of s / |X| from the smallest to 1, by diagonal matrices (1, s)."""
    ratio = torch.logspace(torch.tensor(smallest).log10().item(), 0, 20_000, dtype=torch.float64)[:-1]
    other = (1 - ratio**2).sqrt()
    made = newton_schulz(torch.diag_embed(torch.stack([ratio, other], -1)) * 3, polynomials, torch.float64)
    values = made[:, 0, 0]
    assert band[0] <= values.min() <= band[0] + 2e-3 and band[1] - 2e-3 <= values.max() <= band[1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(48, 48), (16, 128), (128, 16), (1, 64)])
def test_singular_values_end_between_seven_and_thirteen_tenths(rows: int, columns: int, dtype: torch.dtype) -> None:
    """From values that lie as far apart as the iteration is made for, in the dtypes that it runs in."""
    values = torch.logspace(-2.5, 0, min(rows, columns), dtype=torch.float64)
    matrix, _, _ = matrices_of(values, rows, columns)
    assert (values / matrix.norm()).min() > 1e-3
    made = newton_schulz(matrix.float(), POLAR_EXPRESS, dtype)
    assert made.dtype == dtype and made.shape == matrix.shape
    found = torch.linalg.svdvals(made.double())
    assert found.min() >= 0.7 and found.max() <= 1.3, found


def test_gaussian_gradients_end_in_the_band_too() -> None:
    """Thirty draws of a head's shape; a square one of this size begins at about 1/200 of its norm."""
    generator = torch.Generator().manual_seed(0)
    for shape in [(30, 16, 64), (30, 24, 24)]:
        made = newton_schulz(torch.randn(shape, generator=generator), POLAR_EXPRESS)
        values = torch.linalg.svdvals(made)
        inside = ((values >= 0.7) & (values <= 1.3)).double().mean()
        assert values.max() <= 1.13 and inside > 0.99, (shape, inside)


def test_singular_vectors_stay() -> None:
    values = torch.logspace(-1, 0, 12, dtype=torch.float64)
    for rows, columns in [(12, 20), (20, 12)]:
        matrix, u, v = matrices_of(values, rows, columns)
        inner = u.mT @ newton_schulz(matrix, QUINTIC, torch.float64) @ v
        torch.testing.assert_close(inner, inner.diagonal().diag(), atol=1e-12, rtol=0)


def test_with_more_iterations_it_is_the_polar_factor() -> None:
    matrix, u, v = matrices_of(torch.logspace(-2, 0, 12, dtype=torch.float64), 20, 12)
    wanted = polar_factor(matrix)
    torch.testing.assert_close(wanted, u @ v.mT)
    made = newton_schulz(matrix, POLAR_EXPRESS + ((1.875, -1.25, 0.375),) * 3, torch.float64)
    torch.testing.assert_close(made, wanted)


def test_each_of_a_batch_is_computed_alone_and_zero_stays() -> None:
    batch = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1)) * torch.tensor([1e-4, 0.0, 1e4])[:, None, None]
    made = newton_schulz(batch, POLAR_EXPRESS)
    assert not made[1].any() and made.isfinite().all()
    for matrix, one in zip(batch, made, strict=True):
        torch.testing.assert_close(newton_schulz(matrix, POLAR_EXPRESS), one)
