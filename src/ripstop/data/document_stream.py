"""Windows of parallel documents as batches: shuffled and endless for a training, each once for a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ripstop.batch import IGNORE, TokenBatch
from ripstop.data.batching import Indices, Sequences, derived_seed, shuffled_batches, token_batches
from ripstop.data.tokenizer import BOS, PAD

LONG = "long_"
"""Before the names of the columns that hold long windows."""


def sides(columns: Mapping[str, Sequences], prefix: str = "") -> dict[str, Sequences]:
    """The source and the target among all columns of a file."""
    return {side: columns[prefix + side] for side in ("source", "target")}


def whole_split(columns: Mapping[str, Sequences], tokens_per_batch: int) -> Iterator[TokenBatch]:
    """Every window once, long ones first, so that a batch too large fails at once.

    The last one is not left with a single row, since the control `wrong` needs another: where the batch before has
    three rows or more that fit beside it, one of them moves, else the batch before takes it, one row beyond the
    budget. Only where the budget does not hold two rows do they stay alone.
    """
    lengths = [columns["source"].lengths, columns["target"].lengths]
    order = np.argsort(-(lengths[0] + lengths[1]), kind="stable")
    batches = token_batches(order, lengths, tokens_per_batch)
    if len(batches) > 1 and len(batches[-1]) == 1 and len(batches[-2]) > 1:
        *rest, before, last = batches
        moved = np.concatenate([before[-1:], last])
        fits = 2 * sum(int(column[moved].max()) for column in lengths) <= tokens_per_batch
        pair = [before[:-1], moved] if len(before) > 2 and fits else [np.concatenate([before, last])]
        batches = [*rest, *pair]
    return (batch_of(columns, rows) for rows in batches)


class DocumentStream:
    """Endless batches; epoch e is a permutation that (seed, e) decides. The state is (epoch, position in it)."""

    def __init__(self, columns: Mapping[str, Sequences], tokens: int, seed: int):
        self._columns = columns
        self._tokens, self._seed = tokens, seed
        self._lengths = [self._columns["source"].lengths, self._columns["target"].lengths]
        self.epoch, self.position = 0, 0
        self._batches = self._epoch_batches()

    def _epoch_batches(self) -> list[Indices]:
        return shuffled_batches(self._lengths, self._tokens, derived_seed("epoch", self._seed, self.epoch))

    def __next__(self) -> TokenBatch:
        if self.position == len(self._batches):
            self.epoch, self.position = self.epoch + 1, 0
            self._batches = self._epoch_batches()
        self.position += 1
        return self._batch(self._batches[self.position - 1])

    def _batch(self, rows: Indices) -> TokenBatch:
        return batch_of(self._columns, rows)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._batches = self._epoch_batches()


class LengtheningStream:
    """Windows until batch `n_before`, long windows from there on. The state is both positions and the number of batches."""

    def __init__(self, windows: DocumentStream, long: DocumentStream, n_before: int):
        self._windows, self._long, self._n_before = windows, long, n_before
        self.n_batches = 0

    def __next__(self) -> TokenBatch:
        stream = self._windows if self.n_batches < self._n_before else self._long
        self.n_batches += 1
        return next(stream)

    def state_dict(self) -> dict[str, Any]:
        return {"n_batches": self.n_batches, "windows": self._windows.state_dict(), "long": self._long.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n_batches = state["n_batches"]
        self._windows.load_state_dict(state["windows"])
        self._long.load_state_dict(state["long"])


def batch_of(columns: Mapping[str, Sequences], rows: Indices) -> TokenBatch:
    """Source y EOS; the decoder reads BOS y and predicts y EOS."""
    source_BS = columns["source"].padded(rows, PAD)
    targets_BT = columns["target"].padded(rows, IGNORE)
    segments_BT = (targets_BT != IGNORE).long()
    tokens_BT = torch.cat([torch.full_like(targets_BT[:, :1], BOS), targets_BT[:, :-1]], 1)
    # Behind the last target stands EOS as an input that predicts nothing; it becomes padding with the rest.
    tokens_BT = torch.where(segments_BT == 0, PAD, tokens_BT)
    return TokenBatch(tokens_BT, targets_BT, segments_BT, source_BS, (source_BS != PAD).long())
