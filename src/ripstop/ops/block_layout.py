"""Packed documents laid apart, so that each begins at a block of the layout: what block-wise attention computes in.

Blocks are counted from the start of a document. In a row of documents of any length they begin anywhere; laid apart, with
nothing between the end of a document and the next multiple of the block, they are those of the row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ripstop.ops.sparse_attention import NOWHERE, Documents


class Layout(NamedTuple):
    """place_BT: where each position lies, one of `n_places`. start_BS: for each place that of its document's first position; a
    multiple of the block. What lies between two documents is of neither."""

    place_BT: Tensor
    start_BS: Tensor
    n_places: int

    @staticmethod
    def of(documents: Documents, block: int) -> Layout:
        start_BT, end_BT = documents
        index_T = torch.arange(start_BT.shape[1], device=start_BT.device)
        room_BT = -(start_BT - end_BT - 1).div(block, rounding_mode="floor") * block  # ceil of the length, in blocks
        room_BT = torch.where(start_BT == index_T, room_BT, 0)
        end_of_room_BT = room_BT.cumsum(1)
        first_BT = (end_of_room_BT - room_BT).gather(1, start_BT)
        place_BT = first_BT + index_T - start_BT
        n_places = int(end_of_room_BT[:, -1].max())
        start_S = torch.arange(n_places, device=start_BT.device) // block * block
        return Layout(place_BT, start_S.expand(len(start_BT), -1).scatter(1, place_BT, first_BT), n_places)

    def spread(self, x_BTC: Tensor) -> Tensor:
        """(B, T, ...) -> (B, n_places, ...), with zeros between the documents."""
        spread = x_BTC.new_zeros(len(x_BTC), self.n_places, *x_BTC.shape[2:])
        return spread.index_put_((self._row, self.place_BT), x_BTC)

    def collect(self, x_BSC: Tensor) -> Tensor:
        """(B, n_places, ...) -> (B, T, ...)."""
        return x_BSC[self._row, self.place_BT]

    @property
    def _row(self) -> Tensor:
        return torch.arange(len(self.place_BT), device=self.place_BT.device).unsqueeze(1)


class CompressedLayout(NamedTuple):
    """The same of compressed blocks: row and slot of those that there are, and which of (B, N) they are."""

    there_BN: Tensor
    row: Tensor
    slot: Tensor
    n_slots: int

    @staticmethod
    def of(layout: Layout, starts_BN: Tensor, stride: int) -> CompressedLayout:
        """starts_BN: from `compressed_starts`."""
        there_BN = starts_BN < NOWHERE
        row = there_BN.nonzero()[:, 0]
        slot = layout.place_BT[row, starts_BN[there_BN]] // stride
        return CompressedLayout(there_BN, row, slot, layout.n_places // stride)

    def spread(self, x_BNC: Tensor) -> Tensor:
        spread = x_BNC.new_zeros(len(x_BNC), self.n_slots, *x_BNC.shape[2:])
        return spread.index_put_((self.row, self.slot), x_BNC[self.there_BN])

    def collect(self, x_BNC: Tensor) -> Tensor:
        collected = x_BNC.new_zeros(*self.there_BN.shape, *x_BNC.shape[2:])
        collected[self.there_BN] = x_BNC[self.row, self.slot]
        return collected
