"""Packed documents: where each begins, which positions belong together, and how to reverse each in place.

`segments_BT` holds 0 for padding and 1, 2, ... for documents. A document is a *run* of equal numbers: a change of number
is a boundary, so the same number after a gap is another document.
"""

from __future__ import annotations

import torch
from torch import Tensor


def starts(segments_BT: Tensor) -> Tensor:
    """True at the first position of each run, (B, T)."""
    first_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    first_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return first_BT


def runs(segments_BT: Tensor) -> Tensor:
    """Number of the run each position lies in, 0, 1, ..., (B, T)."""
    return starts(segments_BT).long().cumsum(1) - 1


def run_starts(segments_BT: Tensor) -> Tensor:
    """Index of the first position of the run each position lies in, (B, T)."""
    index_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    return torch.where(starts(segments_BT), index_T, 0).cummax(1).values


def positions(segments_BT: Tensor) -> Tensor:
    """Position inside the document, 0, 1, ..., (B, T).

    >>> positions(torch.tensor([[1, 1, 1, 2, 2, 0]])).tolist()
    [[0, 1, 2, 0, 1, 0]]
    """
    return torch.arange(segments_BT.shape[1], device=segments_BT.device) - run_starts(segments_BT)


def reversal(segments_BT: Tensor) -> Tensor:
    """Index that reverses each run where it lies, (B, T); its own inverse.

    >>> reversal(torch.tensor([[1, 1, 1, 2, 2, 0]])).tolist()
    [[2, 1, 0, 4, 3, 5]]
    """
    last_BT = segments_BT.shape[1] - 1 - run_starts(segments_BT.flip(1)).flip(1)
    return run_starts(segments_BT) + last_BT - torch.arange(segments_BT.shape[1], device=segments_BT.device)


def without_padding(x_BTD: Tensor, segments_BT: Tensor | None) -> Tensor:
    """`x_BTD` with zeros where there is padding. Selects rather than multiplies: NaN in the padding must not survive."""
    if segments_BT is None:
        return x_BTD
    return torch.where((segments_BT != 0).unsqueeze(-1), x_BTD, torch.zeros((), dtype=x_BTD.dtype, device=x_BTD.device))
