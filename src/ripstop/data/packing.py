"""Packing: several windows in one row, each a document of its own, so that next to nothing of a batch is padding.

First fit, the longest first (Johnson 1973), for two sizes at once: a row holds at most `capacity` tokens of the source and as
many of the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import Indices, Sequences, derived_seed, shuffled_batches
from ripstop.data.document_stream import DocumentStream
from ripstop.data.tokenizer import BOS, PAD

POOL = 2**14
"""Windows that are packed together: enough to find one that fits, and few enough to be searched in no time."""


def packed_rows(order: Indices, lengths: Sequence[Indices], capacity: int) -> list[Indices]:
    """Rows of windows, each window once: those of a row hold at most `capacity` tokens together, in every column.

    order: the windows; neighbours of it share their rows. lengths: of each column, indexed by what `order` holds.
    """
    rows: list[Indices] = []
    for start in range(0, len(order), POOL):
        rows += _first_fit(order[start : start + POOL], lengths, capacity)
    return rows


def _first_fit(pool: Indices, lengths: Sequence[Indices], capacity: int) -> list[Indices]:
    sizes = np.stack([column[pool] for column in lengths], axis=1)
    if sizes.max(initial=0) > capacity:
        raise ConfigError(f"data.pack: a row of {capacity} tokens does not hold a window of {sizes.max()}; raise it")
    free = np.full((len(pool), len(lengths)), capacity)
    rows: list[list[int]] = []
    for window in np.argsort(-sizes.max(1), kind="stable"):
        row = int(np.argmax((free[: len(rows) + 1] >= sizes[window]).all(1)))
        if row == len(rows):
            rows.append([])
        rows[row].append(int(pool[window]))
        free[row] -= sizes[window]
    return [np.array(row) for row in rows]


class PackedStream(DocumentStream):
    """As `DocumentStream`, with several windows in a row. Which windows share one changes with the epoch."""

    def __init__(self, columns: Mapping[str, Sequences], tokens: int, seed: int, capacity: int):
        self._capacity = capacity
        self._rows: list[Indices] = []
        super().__init__(columns, tokens, seed)

    def _epoch_batches(self) -> list[Indices]:
        seed = derived_seed("packing", self._seed, self.epoch)
        order = np.random.default_rng(seed).permutation(len(self._lengths[0]))
        self._rows = packed_rows(order, self._lengths, self._capacity)
        lengths = [np.array([column[row].sum() for row in self._rows]) for column in self._lengths]
        return shuffled_batches(lengths, self._tokens, seed)

    def _batch(self, rows: Indices) -> TokenBatch:
        return packed_batch(self._columns, [self._rows[row] for row in rows])


def packed_batch(columns: Mapping[str, Sequences], rows: Sequence[Indices]) -> TokenBatch:
    """Document n of a row reads source n: equal numbers in both segments, 0 is padding."""
    source, target = columns["source"], columns["target"]
    sources = [[source[int(window)] for window in row] for row in rows]
    targets = [[target[int(window)] for window in row] for row in rows]
    n_source, n_target = (max(sum(map(len, row)) for row in side) for side in (sources, targets))
    source_BS, source_segments_BS = (torch.full((len(rows), n_source), fill) for fill in (PAD, 0))
    tokens_BT, targets_BT, segments_BT = (torch.full((len(rows), n_target), fill) for fill in (PAD, IGNORE, 0))
    for i, (row_sources, row_targets) in enumerate(zip(sources, targets, strict=True)):
        ends = zip(accumulate(map(len, row_sources)), accumulate(map(len, row_targets)), strict=True)
        for n, (x, y, (s, t)) in enumerate(zip(row_sources, row_targets, ends, strict=True), 1):
            source_BS[i, s - len(x) : s] = torch.tensor(x)
            source_segments_BS[i, s - len(x) : s] = n
            tokens_BT[i, t - len(y) : t] = torch.tensor([BOS, *y[:-1]])
            targets_BT[i, t - len(y) : t] = torch.tensor(y)
            segments_BT[i, t - len(y) : t] = n
    return TokenBatch(tokens_BT, targets_BT, segments_BT, source_BS, source_segments_BS)
