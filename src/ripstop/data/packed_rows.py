"""Documents back to back in rows of one length: packed with next to no padding, kept on the disk, read by number.

A row holds what is to be predicted, so that it says itself where its documents begin: every document ends in EOS, and one that
is cut, because it is longer than a row, fills whole rows but for its last piece.

    row        y1 y2 EOS  z1 z2 z3 EOS  PAD        of two documents
    inputs     BOS y1 y2  BOS z1 z2 z3  PAD
    segments    1  1  1    2  2  2  2    0

So a row, every document in it, and every piece of a long one begin with BOS, and as many tokens are read as are predicted.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import Indices
from ripstop.data.tokenizer import BOS, EOS, PAD

POOL = 2**24
"""Tokens that are packed together: enough of them that hardly a row stays open, and few enough to be held."""


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of pieces, each piece once: the longest first, each into the row with the least room that holds it (best fit
    decreasing; Ding et al. 2024, arXiv 2404.10830).

    lengths: of the pieces, from 1 to `capacity`.

    >>> best_fit([6, 3, 5, 4, 1], 10)
    [[0, 3], [2, 1, 4]]
    """
    rows: list[list[int]] = []
    rows_with_room: list[list[int]] = [[] for _ in range(capacity)]
    rooms = 0  # bit n is set where a row has room for n more: the lowest one above a length is found at once
    for piece in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        length = lengths[piece]
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(piece)
        if room > length:
            rows_with_room[room - length].append(row)
            rooms |= 1 << room - length
    return rows


class RowWriter:
    """Packs documents as they come, and writes their rows to an open file.

    extra: further numbers of every token are written beside, to a file of their own, 0 where there is padding.
    After `close`, the counts say what was written, and `sha256` has seen all of it.
    """

    def __init__(self, file: BinaryIO, block_size: int, dtype: np.dtype, extra: BinaryIO | None = None):
        self._files = [file] if extra is None else [file, extra]
        self._block_size, self._dtype = block_size, dtype
        # Python's own arrays take a list faster than numpy does.
        self._pools = [array(dtype.char) for _ in self._files]
        self._lengths: list[int] = []
        self.sha256 = hashlib.sha256()
        self.n_documents, self.n_bytes, self.n_tokens, self.n_pieces, self.n_rows = 0, 0, 0, 0, 0

    def add(self, ids: list[int], n_bytes: int, extra: list[int] | None = None) -> None:
        """One document: its token ids without EOS, the bytes of its text, and the extra numbers of the tokens."""
        for pool, numbers, last in zip(self._pools, (ids, extra or []), (EOS, 0), strict=False):
            pool.fromlist(numbers)
            pool.append(last)
        n = len(ids) + 1
        whole, rest = divmod(n, self._block_size)
        self._lengths += [self._block_size] * whole
        if rest:
            self._lengths.append(rest)
        self.n_documents += 1
        self.n_bytes += n_bytes
        self.n_tokens += n
        if len(self._pools[0]) >= POOL:
            self._flush()

    def close(self) -> None:
        """Pack and write what is left."""
        self._flush()

    @property
    def padding(self) -> float:
        """The part of all positions that holds no token."""
        return 1 - self.n_tokens / (self.n_rows * self._block_size) if self.n_rows else 0.0

    def _flush(self) -> None:
        packed = best_fit(self._lengths, self._block_size)
        ends = list(accumulate(self._lengths))
        padding = np.full(self._block_size, PAD, dtype=self._dtype)
        for pool, file in zip(self._pools, self._files, strict=True):
            numbers = np.asarray(pool).astype(self._dtype, copy=False)
            parts = []
            for pieces in packed:
                room = self._block_size
                for piece in pieces:
                    parts.append(numbers[ends[piece] - self._lengths[piece] : ends[piece]])
                    room -= self._lengths[piece]
                parts.append(padding[:room])
            rows = np.concatenate(parts) if parts else padding[:0]
            file.write(rows.data)
            self.sha256.update(rows.data)
        self.n_rows += len(packed)
        self.n_pieces += len(self._lengths)
        self._pools, self._lengths = [array(self._dtype.char) for _ in self._files], []


class PackedRows:
    """Rows in a file, mapped into memory. `ConfigError` where the file is none of so many."""

    def __init__(self, path: Path, n_rows: int, block_size: int, dtype: np.dtype):
        expected = n_rows * block_size * dtype.itemsize
        if not path.is_file() or path.stat().st_size != expected or not n_rows:
            raise ConfigError(
                f"{path}: is not the file of {n_rows} rows that data.json describes; run `python -m ripstop prepare "
                f"{path.parent}` again"
            )
        self.block_size = block_size
        self._mapped = np.memmap(path, dtype, mode="r", shape=(n_rows, block_size))

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, rows: Indices) -> Tensor:
        """int64 (len(rows), block_size): what these rows predict, PAD behind their ends."""
        return torch.from_numpy(self._mapped[rows].astype(np.int64))


def row_dtype(vocab_size: int) -> np.dtype:
    """The smallest whole numbers that hold every token id, in one order of bytes on every machine."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def batch_of(targets_BT: Tensor, isolate: bool = True) -> TokenBatch:
    """What a model reads to predict rows; PAD in `targets_BT` is padding.

    isolate: each document (or piece of a long one) is a segment; else a row is one, and its documents see those before.
    """
    begins_BT = torch.ones_like(targets_BT, dtype=torch.bool)
    begins_BT[:, 1:] = targets_BT[:, :-1] == EOS
    tokens_BT = torch.cat([targets_BT[:, :1], targets_BT[:, :-1]], 1).masked_fill_(begins_BT, BOS)
    padding_BT = targets_BT == PAD
    segments_BT = begins_BT.cumsum(1) if isolate else torch.ones_like(targets_BT)
    return TokenBatch(
        tokens_BT.masked_fill_(padding_BT, PAD),
        targets_BT.masked_fill(padding_BT, IGNORE),
        segments_BT.masked_fill_(padding_BT, 0),
    )
