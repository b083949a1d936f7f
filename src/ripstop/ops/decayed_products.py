"""Products of vectors at two positions of a chunk, less what has decayed between them.

    D_ij = sum_c a_ic b_jc 2^(s_ic - s_jc)    for j < i, else 0

s counts in powers of two and falls with time. Where all channels share it, (..., Q, 1), this is a product of matrices, times
the decays. Where each has its own, (..., Q, K), it is one too, (a 2^(s - r)) (b 2^(r - s))^T, but only where both factors stay
below 1: with r the s just before i's block, for every j in front of that block. Inside of a block, which is small, the sum is
taken as it stands (arXiv 2312.06635, section 4.3, calls it secondary chunking). a, b: (..., Q, K); D: (..., Q, Q).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

BLOCK = 16
"""Positions of a block."""


def decayed_products(several: Sequence[Tensor], b: Tensor, s: Tensor) -> list[Tensor]:
    """D of each of `several` a, which share their decays."""
    size = b.shape[-2]
    if s.shape[-1] == 1:
        decay = _inside(s, 0, size).squeeze(-1)
        return [(a @ b.transpose(-1, -2)).mul_(decay) for a in several]
    outs = [a.new_zeros(*a.shape[:-1], size) for a in several]
    for begin, end in _blocks(size):
        decay, right = _inside(s, begin, end), b[..., begin:end, :].unsqueeze(-3)
        for a, out in zip(several, outs, strict=True):
            out[..., begin:end, begin:end] = ((a[..., begin:end, :].unsqueeze(-2) * decay).mul_(right)).sum(-1)
        if begin:
            late, early = _across(s, begin, end)
            faded = (b[..., :begin, :] * early).transpose(-1, -2)
            for a, out in zip(several, outs, strict=True):
                out[..., begin:end, :begin] = (a[..., begin:end, :] * late) @ faded
    return outs


def decayed_products_backward(
    douts: Sequence[Tensor], several: Sequence[Tensor], b: Tensor, s: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Gradients of each a, and of b through it. That of s is a da - b db, channel by channel."""
    pairs = list(zip(douts, several, strict=True))
    if s.shape[-1] == 1:
        decay = _inside(s, 0, b.shape[-2]).squeeze(-1)
        products = ((dout * decay, a) for dout, a in pairs)
        return [(dproducts @ b, dproducts.transpose(-1, -2) @ a) for dproducts, a in products]
    found = [(torch.zeros_like(a), torch.zeros_like(b)) for a in several]
    for begin, end in _blocks(b.shape[-2]):
        decay, right = _inside(s, begin, end), b[..., begin:end, :].unsqueeze(-3)
        for (dout, a), (da, db) in zip(pairs, found, strict=True):
            inside = decay * dout[..., begin:end, begin:end].unsqueeze(-1)
            da[..., begin:end, :] = (inside * right).sum(-2)
            db[..., begin:end, :] += inside.mul_(a[..., begin:end, :].unsqueeze(-2)).sum(-3)
        if begin:
            late, early = _across(s, begin, end)
            faded = b[..., :begin, :] * early
            for (dout, a), (da, db) in zip(pairs, found, strict=True):
                d = dout[..., begin:end, :begin]
                da[..., begin:end, :] += (d @ faded) * late
                db[..., :begin, :] += (d.transpose(-1, -2) @ (a[..., begin:end, :] * late)) * early
    return found


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, size, BLOCK):
        yield begin, min(begin + BLOCK, size)


def _inside(s: Tensor, begin: int, end: int) -> Tensor:
    """2^(s_i - s_j) for j < i, else 0: (..., i, j, K)."""
    here = s[..., begin:end, :]
    decay = here.unsqueeze(-2) - here.unsqueeze(-3)
    future = torch.ones(end - begin, end - begin, dtype=torch.bool, device=s.device).triu()
    most = torch.where(future, -torch.inf, torch.inf).to(s.dtype).unsqueeze(-1)
    return torch.minimum(decay, most, out=decay).exp2_()  # masked_fill_ takes four times as long on a CPU


def _across(s: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
    """2^(s_i - r) of the block, and 2^(r - s_j) of all that is in front of it."""
    reference = s[..., begin - 1 : begin, :]
    return (s[..., begin:end, :] - reference).exp2(), (reference - s[..., :begin, :]).exp2()
