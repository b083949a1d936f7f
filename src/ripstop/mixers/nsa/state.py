"""The past of natively sparse attention: a stream of compressed blocks, all keys to select from, and a rolling window."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ripstop.mixers.heads import write


class SparseState(NamedTuple):
    """Keys and values, (B, room, G, K) each, of `length` tokens.

    compressed: one for each block that is whole. recent: of the last l - 1 tokens, uncompressed, from which the next blocks
    are made. selected: of all tokens. window: of the last w, a ring in which position p lies at p % w. conv: the
    convolution's past, empty without one.
    """

    compressed_k: Tensor
    compressed_v: Tensor
    recent_k: Tensor
    recent_v: Tensor
    selected_k: Tensor
    selected_v: Tensor
    window_k: Tensor
    window_v: Tensor
    conv: Tensor
    n_compressed: int
    length: int

    def filled(self) -> SparseState:
        counts = {"compressed": self.n_compressed, "recent": self.length, "selected": self.length, "window": self.length}
        kept = {f"{name}_{x}": getattr(self, f"{name}_{x}")[:, :count] for name, count in counts.items() for x in "kv"}
        return self._replace(**kept)

    @property
    def room(self) -> int:
        return self.selected_k.shape[1]

    def ordered_window(self, n_tokens: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the last `n_tokens`, oldest first."""
        position = torch.arange(self.length - n_tokens, self.length, device=self.window_k.device)
        slots = position % max(1, self.window_k.shape[1])
        return self.window_k[:, slots], self.window_v[:, slots]

    def recent(self) -> tuple[Tensor, Tensor]:
        n_tokens = min(self.length, self.recent_k.shape[1])
        return self.recent_k[:, :n_tokens], self.recent_v[:, :n_tokens]

    def with_window(self, k_BTGK: Tensor, v_BTGK: Tensor) -> SparseState:
        """After new tokens, of which only the last w are kept. `length` is not moved."""
        ring, n_new = self.window_k.shape[1], k_BTGK.shape[1]
        kept = min(ring, n_new)
        slots = torch.arange(self.length + n_new - kept, self.length + n_new, device=k_BTGK.device) % ring
        return self._replace(
            window_k=write(self.window_k, slots, k_BTGK[:, n_new - kept :]),
            window_v=write(self.window_v, slots, v_BTGK[:, n_new - kept :]),
        )

    def with_recent(self, k_BSGK: Tensor, v_BSGK: Tensor) -> SparseState:
        """With the last l - 1 of the tokens given, which begin with what `recent` returns."""
        kept = min(self.recent_k.shape[1], k_BSGK.shape[1])
        slots, first = slice(0, kept), k_BSGK.shape[1] - kept
        return self._replace(
            recent_k=write(self.recent_k, slots, k_BSGK[:, first:]), recent_v=write(self.recent_v, slots, v_BSGK[:, first:])
        )

    def with_selected(self, k_BTGK: Tensor, v_BTGK: Tensor) -> SparseState:
        """With new tokens behind the others."""
        slots = slice(self.length, self.length + k_BTGK.shape[1])
        return self._replace(selected_k=write(self.selected_k, slots, k_BTGK), selected_v=write(self.selected_v, slots, v_BTGK))

    def with_compressed(self, k_BNGK: Tensor, v_BNGK: Tensor) -> SparseState:
        """With new blocks behind the others."""
        end = self.n_compressed + k_BNGK.shape[1]
        slots = slice(self.n_compressed, end)
        return self._replace(
            compressed_k=write(self.compressed_k, slots, k_BNGK),
            compressed_v=write(self.compressed_v, slots, v_BNGK),
            n_compressed=end,
        )
