"""Packed rows as an endless stream of batches: one stream for all ranks of a training, read ahead where that helps.

The stream is a sequence of rows: epoch e is a permutation that (seed, e) decides. A batch takes the next rows of it, whatever
the number of ranks, and rank r of R reads every R-th of these, from the r-th on. So what the ranks read together is the stream,
no row twice and none left out; and the position, the tokens that all ranks have consumed, means the same at any number.
"""

from __future__ import annotations

import functools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.batching import Indices, derived_seed
from ripstop.data.packed_rows import PackedRows, batch_of

AHEAD = 4
"""Batches for each thread that reads ahead."""


class TextStream:
    """Batches of `n_rows` rows for all ranks together; batch n follows from its number alone.

    The state is {"tokens": consumed by all ranks, padding included}. Of another size of batch it can be loaded, too.
    """

    def __init__(self, rows: PackedRows, n_rows: int, seed: int, isolate: bool = True, rank: int = 0, n_ranks: int = 1):
        if not 0 <= rank < n_ranks:
            raise ConfigError(f"rank {rank} of {n_ranks}: there is no such rank; number them from 0 on")
        if n_rows < n_ranks:
            raise ConfigError(
                f"training.tokens_per_step: a batch of {n_rows} rows of {rows.block_size} tokens has none for some of "
                f"{n_ranks} ranks; raise it, or lower training.accumulation or the number of ranks"
            )
        self.n_rows = n_rows
        self._rows, self._seed, self._isolate, self._rank, self._n_ranks = rows, seed, isolate, rank, n_ranks
        # A batch meets more epochs than one at their borders, and several threads ask.
        self._order = functools.lru_cache(maxsize=2)(self._permutation)
        self.position = 0
        """Rows that all ranks have consumed."""

    def shard(self, rank: int, n_ranks: int) -> TextStream:
        """The part of rank `rank` of `n_ranks`, at the same position."""
        stream = TextStream(self._rows, self.n_rows, self._seed, self._isolate, rank, n_ranks)
        stream.position = self.position
        return stream

    def __next__(self) -> TokenBatch:
        batch = self.at(self.position)
        self.advance()
        return batch

    def at(self, position: int) -> TokenBatch:
        """This rank's part of the batch that begins at row `position` of the stream."""
        return batch_of(self._rows[self.rows(position)], self._isolate)

    def rows(self, position: int) -> Indices:
        """The numbers of the rows in that part."""
        n = len(self._rows)
        wanted = np.arange(position, position + self.n_rows)[self._rank :: self._n_ranks]
        epochs = range(wanted[0] // n, wanted[-1] // n + 1)
        return np.concatenate([self._order(epoch)[wanted[wanted // n == epoch] % n] for epoch in epochs])

    def advance(self) -> None:
        """One batch was consumed."""
        self.position += self.n_rows

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.position * self._rows.block_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, rest = divmod(state["tokens"], self._rows.block_size)
        if rest:
            raise ValueError(f"a position of {state['tokens']} tokens is none of rows of {self._rows.block_size}")

    def _permutation(self, epoch: int) -> Indices:
        return np.random.default_rng(derived_seed("text", self._seed, epoch)).permutation(len(self._rows))


class BackgroundStream:
    """The batches of a `TextStream`, made by threads beside this one, and in pinned memory where `pin` says so.

    Its state is that of what was handed over: what was made ahead is made again by whoever resumes. Threads do, since making a
    batch is copying, which lets others run meanwhile; nothing has to travel between processes, and none can be killed.
    """

    def __init__(self, stream: TextStream, n_workers: int, pin: bool = False):
        self._stream, self._n_workers, self._pin = stream, n_workers, pin
        self._executor = ThreadPoolExecutor(n_workers, thread_name_prefix="reads ahead")
        self._made: deque[Future[TokenBatch]] = deque()
        self._next = stream.position

    def shard(self, rank: int, n_ranks: int) -> BackgroundStream:
        """The part of rank `rank` of `n_ranks`, at the same position."""
        return BackgroundStream(self._stream.shard(rank, n_ranks), self._n_workers, self._pin)

    def __next__(self) -> TokenBatch:
        while len(self._made) < AHEAD * self._n_workers:
            self._made.append(self._executor.submit(self._make, self._next))
            self._next += self._stream.n_rows
        batch = self._made.popleft().result()
        self._stream.advance()
        return batch

    def state_dict(self) -> dict[str, Any]:
        return self._stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._stream.load_state_dict(state)
        self._next = self._stream.position
        while self._made:
            self._made.pop().cancel()

    def _make(self, position: int) -> TokenBatch:
        batch = self._stream.at(position)
        if not self._pin:
            return batch
        return TokenBatch(*(value.pin_memory() for value in vars(batch).values() if value is not None))
