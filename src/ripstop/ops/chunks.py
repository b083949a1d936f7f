"""How the chunked SSD cuts time, and what of one position is left at another: the decays of `state_space_chunked`.

Here s counts in powers of two, s_t = (a_1 + ... + a_t) log2(e), so that 2^(s_i - s_j) = exp(a_{j+1} + ... + a_i). On a CPU
exp2 takes the same time for every argument, and exp five to twenty times as long for what is masked or has faded to nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)


class Chunks(NamedTuple):
    """How T is cut: `n` chunks of `size`, with `fill` positions behind the last."""

    n: int
    size: int
    fill: int

    @staticmethod
    def of(n_time: int, chunk_size: int) -> Chunks:
        """Balanced: 66 positions in chunks of at most 64 are 33 + 33, not 64 and 62 of filling."""
        n = -(-n_time // chunk_size)
        size = -(-n_time // n)
        return Chunks(n, size, n * size - n_time)

    def extend(self, x: Tensor) -> Tensor:
        """Zeros as filling: with dt = 0 and x = 0 they leave the state as it is."""
        return x if self.fill == 0 else torch.cat([x, x.new_zeros(x.shape[0], self.fill, *x.shape[2:])], 1)

    def cut(self, x: Tensor) -> Tensor:
        """(B, T, ...) as a view (c, B, Q, ...)."""
        return x.unflatten(1, (self.n, self.size)).transpose(0, 1)

    def runs(self, run_BT: Tensor) -> Tensor:
        """Numbers of the documents by chunk, (c, B, Q); the filling is of the last."""
        return self.cut(torch.cat([run_BT, run_BT[:, -1:].expand(-1, self.fill)], 1))


class Ends(NamedTuple):
    """Who shares a document with the states between chunks. Factors of 0 and 1: arithmetic with exp(-inf) would give NaN."""

    enter: Tensor  # (c, B, Q, 1): position sees the state that enters the chunk
    leave: Tensor  # (c, B, Q, 1): position is seen by the state that leaves it

    @staticmethod
    def of(run_cBQ: Tensor | None, dtype: torch.dtype) -> Ends | None:
        if run_cBQ is None:
            return None
        before_cB = torch.cat([torch.zeros_like(run_cBQ[:1, :, -1]), run_cBQ[:-1, :, -1]])  # run 0 continues the initial state
        enter = (run_cBQ == before_cB.unsqueeze(-1)).to(dtype).unsqueeze(-1)
        return Ends(enter, (run_cBQ == run_cBQ[..., -1:]).to(dtype).unsqueeze(-1))


def apart(size: int, run_cBQ: Tensor | None, like: Tensor) -> Tensor:
    """0 where j reaches i, else -inf: (Q, Q), or (c, B, 1, Q, Q) with documents."""
    future_QQ = torch.ones(size, size, dtype=torch.bool, device=like.device).triu(1)
    if run_cBQ is None:
        return like.new_zeros(size, size).masked_fill_(future_QQ, float("-inf"))
    parted = (run_cBQ.unsqueeze(-1) != run_cBQ.unsqueeze(-2)) | future_QQ
    return like.new_zeros(parted.shape).masked_fill_(parted, float("-inf")).unsqueeze(2)


def between(s: Tensor, parted: Tensor) -> Tensor:
    """2^(s_i - s_j) where i sees j, else 0: (c, B, H, Q, Q). parted: from `apart`."""
    s_head = s.transpose(2, 3).contiguous()
    return (s_head.unsqueeze(-1) - s_head.unsqueeze(-2)).add_(parted).exp2_()


def entering(s: Tensor, ends: Ends | None) -> Tensor:
    """2^s_i: what is left at i of the state that entered, (c, B, Q, H)."""
    return s.exp2() if ends is None else s.exp2() * ends.enter


def leaving(s: Tensor, ends: Ends | None) -> Tensor:
    """2^(s_Q - s_j): what is left at the chunk's end of the input at j, (c, B, Q, H)."""
    left = (s[:, :, -1:] - s).exp2_()
    return left if ends is None else left * ends.leave


def through(s: Tensor, ends: Ends | None) -> Tensor:
    """What is left at the chunk's end of the state that entered, (c, B, H, 1, 1)."""
    left = s[:, :, -1].exp2()
    return (left if ends is None else left * ends.enter[:, :, -1])[..., None, None]
