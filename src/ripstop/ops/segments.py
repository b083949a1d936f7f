"""Packed documents: where each begins, which positions belong together, and how to reverse each in place.

Segment numbers are 0 for padding and 1, 2, ... for documents. A document is a *run* of equal numbers: a change of number
is a boundary, so the same number after a gap is another document.
"""

from __future__ import annotations

from typing import NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor


class Segments(NamedTuple):
    """All that mixers ask about documents, derived once for a whole model: build it with `of`, pass it on.

    numbers_BT: as given, 0 where there is padding. run_BT: number of the run each position lies in, 0, 1, ... in each row,
    int32 as kernels want it. start_BT, end_BT: index of the first and of the last position of that run.
    position_BT: position inside the document, 0, 1, .... offsets: int32, where each run begins when all rows are laid end to
    end, padding too, and B * T at the end: what kernels for sequences of any length take. Finding how many runs there are
    makes the host wait for a GPU; it does so here, once, and not in every layer.

    >>> Segments.of(torch.tensor([[1, 1, 1, 2, 2, 0]])).position_BT.tolist()
    [[0, 1, 2, 0, 1, 0]]
    """

    numbers_BT: Tensor
    run_BT: Tensor
    start_BT: Tensor
    end_BT: Tensor
    position_BT: Tensor
    offsets: Tensor

    @overload
    @classmethod
    def of(cls, numbers_BT: Tensor) -> Segments: ...
    @overload
    @classmethod
    def of(cls, numbers_BT: None) -> None: ...
    @overload
    @classmethod
    def of(cls, numbers_BT: Tensor | None) -> Segments | None: ...
    @classmethod
    def of(cls, numbers_BT: Tensor | None) -> Segments | None:
        """From the segment numbers of a batch; None, one document without padding, stays None."""
        if numbers_BT is None:
            return None
        n_time = numbers_BT.shape[1]
        first_BT = starts(numbers_BT)
        last_BT = F.pad(first_BT[:, 1:], (0, 1), value=True)
        index_T = torch.arange(n_time, device=numbers_BT.device)
        start_BT = torch.where(first_BT, index_T, 0).cummax(1).values
        end_BT = torch.where(last_BT, index_T, n_time).flip(1).cummin(1).values.flip(1)
        begins = first_BT.flatten().nonzero().squeeze(1)
        return cls(
            numbers_BT,
            first_BT.cumsum(1, dtype=torch.int32) - 1,
            start_BT,
            end_BT,
            index_T - start_BT,
            F.pad(begins, (0, 1), value=numbers_BT.numel()).to(torch.int32),
        )

    @property
    def reversal_BT(self) -> Tensor:
        """Index that reverses each run where it lies; its own inverse.

        >>> Segments.of(torch.tensor([[1, 1, 1, 2, 2, 0]])).reversal_BT.tolist()
        [[2, 1, 0, 4, 3, 5]]
        """
        return self.end_BT - self.position_BT


def starts(numbers_BT: Tensor) -> Tensor:
    """True at the first position of each run, (B, T)."""
    first_BT = torch.ones_like(numbers_BT, dtype=torch.bool)
    first_BT[:, 1:] = numbers_BT[:, 1:] != numbers_BT[:, :-1]
    return first_BT


def without_padding(x_BTD: Tensor, segments: Segments | None) -> Tensor:
    """`x_BTD` with zeros where there is padding. Selects rather than multiplies: NaN in the padding must not survive."""
    if segments is None:
        return x_BTD
    zero = torch.zeros((), dtype=x_BTD.dtype, device=x_BTD.device)
    return torch.where((segments.numbers_BT != 0).unsqueeze(-1), x_BTD, zero)
