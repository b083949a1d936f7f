"""Products of vectors at two positions of a chunk, less what has decayed between them.

    D_ij = sum_c a_ic b_jc 2^(s_ic - s_jc)    for j < i, else 0

s counts in powers of two and falls with time. Where all channels share it, (..., Q, 1), this is a product of matrices, times
the decays. Where each has its own, (..., Q, K), it is one too, (a 2^(s - r)) (b 2^(r - s))^T, but only where both factors stay
below 1: with r the s just before i's block, for every j in front of that block. Inside of a block, which is small, the sum is
taken as it stands (arXiv 2312.06635, section 4.3, calls it secondary chunking). a, b: (..., Q, K); D: (..., Q, Q).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 16
"""Positions of a block."""


def decayed_products(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """D."""
    size = a.shape[-2]
    if s.shape[-1] == 1:
        return (a @ b.transpose(-1, -2)).mul_(_inside(s, 0, size).squeeze(-1))
    out = a.new_zeros(*a.shape[:-1], size)
    for begin, end in _blocks(size):
        left, decay, right = a[..., begin:end, :], _inside(s, begin, end), b[..., begin:end, :]
        out[..., begin:end, begin:end] = ((left.unsqueeze(-2) * decay) * right.unsqueeze(-3)).sum(-1)
        if begin:
            late, early = _across(s, begin, end)
            out[..., begin:end, :begin] = (left * late) @ (b[..., :begin, :] * early).transpose(-1, -2)
    return out


def decayed_products_backward(dout: Tensor, a: Tensor, b: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a and b. That of s is a da - b db, channel by channel."""
    if s.shape[-1] == 1:
        dproducts = dout * _inside(s, 0, a.shape[-2]).squeeze(-1)
        return dproducts @ b, dproducts.transpose(-1, -2) @ a
    da, db = torch.zeros_like(a), torch.zeros_like(b)
    for begin, end in _blocks(a.shape[-2]):
        inside = _inside(s, begin, end) * dout[..., begin:end, begin:end].unsqueeze(-1)
        da[..., begin:end, :] = (inside * b[..., begin:end, :].unsqueeze(-3)).sum(-2)
        db[..., begin:end, :] += (inside * a[..., begin:end, :].unsqueeze(-2)).sum(-3)
        if begin:
            late, early = _across(s, begin, end)
            d = dout[..., begin:end, :begin]
            da[..., begin:end, :] += (d @ (b[..., :begin, :] * early)) * late
            db[..., :begin, :] += (d.transpose(-1, -2) @ (a[..., begin:end, :] * late)) * early
    return da, db


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, size, BLOCK):
        yield begin, min(begin + BLOCK, size)


def _inside(s: Tensor, begin: int, end: int) -> Tensor:
    """2^(s_i - s_j) for j < i, else 0: (..., i, j, K)."""
    here = s[..., begin:end, :]
    future = torch.ones(end - begin, end - begin, dtype=torch.bool, device=s.device).triu()
    return (here.unsqueeze(-2) - here.unsqueeze(-3)).masked_fill_(future.unsqueeze(-1), float("-inf")).exp2_()


def _across(s: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
    """2^(s_i - r) of the block, and 2^(r - s_j) of all that is in front of it."""
    reference = s[..., begin - 1 : begin, :]
    return (s[..., begin:end, :] - reference).exp2(), (reference - s[..., :begin, :]).exp2()
