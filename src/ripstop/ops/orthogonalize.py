"""The orthogonal matrix nearest to a matrix: by singular values, and by products of matrices alone."""

from __future__ import annotations

import torch
from torch import Tensor

Polynomials = tuple[tuple[float, float, float], ...]

POLAR_EXPRESS: Polynomials = tuple(
    (a / 1.01, b / 1.01**3, c / 1.01**5)  # the authors' margin for rounding
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
)
"""A polynomial for each iteration, the best there is after those before it (arXiv 2505.16932, algorithm 1)."""

QUINTIC: Polynomials = ((3.4445, -4.7750, 2.0315),) * 5
"""The same polynomial five times, as published with Muon (K. Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""


def polar_factor(matrices: Tensor) -> Tensor:
    """U V^T of each matrix U S V^T (..., rows, columns): every singular value becomes 1."""
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    return u @ vh


def newton_schulz(matrices: Tensor, polynomials: Polynomials, dtype: torch.dtype = torch.float32) -> Tensor:
    """U S' V^T of each matrix U S V^T (..., rows, columns), where S' is near 1, as a tensor of `dtype`.

    Each iteration is X <- a X + b (X X^T) X + c (X X^T)^2 X, an odd polynomial of every singular value and of nothing else.
    It starts from X / |X|, in Frobenius' norm. Of a singular value s / |X| between 1/1000 and 1, `POLAR_EXPRESS` makes one
    in [0.846, 1.124]; `QUINTIC` needs one above 1/500 to end in [0.681, 1.203]. In bfloat16 rounding adds to that. What is
    smaller ends smaller, and zero stays zero. dtype: of the products.
    """
    x = matrices.to(dtype).flatten(0, -3) if matrices.ndim > 2 else matrices.to(dtype)[None]
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for a, b, c in polynomials:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape)
