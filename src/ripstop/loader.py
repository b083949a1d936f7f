"""Prepared data read without a model: how many tokens a second, how much of them is padding, and a digest of what was read."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ripstop import yaml_file
from ripstop.batch import BatchStream, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.data.text import TextConfig
from ripstop.data.text_stream import BackgroundStream

MOVES_NO_NUMBER = "it measures time, and nothing reads what it prints"


@dataclass(frozen=True)
class Reading:
    """n_documents: packed in the rows, pieces of long ones included. seconds: of all batches but the first, which starts what
    reads them. sha256: of all inputs and targets. state: the position behind them."""

    n_batches: int
    n_tokens: int
    n_padding: int
    n_documents: int
    first_seconds: float
    seconds: float
    sha256: str
    state: dict[str, Any]

    def __str__(self) -> str:
        speed = self.n_tokens * (1 - 1 / self.n_batches) / self.seconds if self.n_batches > 1 else 0.0
        return (
            f"{self.n_batches} batches with {self.n_tokens:,} tokens of {self.n_documents:,} documents, "
            f"{self.n_padding / self.n_tokens:.3%} padding; the first after {self.first_seconds:.3f} s, "
            f"then {speed:,.0f} tokens/s; sha256 {self.sha256[:16]}, position {self.state}"
        )


def read(
    folder: Path, tokens_per_step: int, n_batches: int, seed: int = 0, workers: int | None = None, rank: int = 0, ranks: int = 1
) -> Reading:
    """Read the batches of a training from a prepared folder twice: as fast as they come, and to say what they hold.

    workers: threads that read ahead, 0 for none; None: as a training on this machine has it. `ConfigError` where
    the data cannot feed such a training.
    """
    values = yaml_file.mapping(folder / "config.yaml", "`python -m ripstop plan --write` writes it")
    config = DATA.parse(values, str(folder / "config.yaml"))
    assert isinstance(config, DataConfig)
    plan = StreamPlan(n_batches, tokens_per_step, 1, seed)
    config.check(plan)
    config.verify(folder)
    stream = _stream(config, folder, plan, workers, rank, ranks)
    start = stream.state_dict()
    begun = time.perf_counter()
    next(stream)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(n_batches - 1):
        next(stream)
    seconds = time.perf_counter() - begun
    stream.load_state_dict(start)
    digest, counts = hashlib.sha256(), []
    for _ in range(n_batches):
        batch = next(stream)
        if not isinstance(batch, TokenBatch):
            raise ConfigError(f"{folder}: data of kind {config.kind} has no rows of tokens to read; name other data")
        digest.update(batch.tokens_BT.numpy().tobytes())
        digest.update(batch.targets_BT.numpy().tobytes())
        counts.append(_counts(batch))
    n_tokens, n_padding, n_documents = (sum(column) for column in zip(*counts, strict=True))
    return Reading(n_batches, n_tokens, n_padding, n_documents, first, seconds, digest.hexdigest(), stream.state_dict())


def _stream(config: DataConfig, folder: Path, plan: StreamPlan, workers: int | None, rank: int, ranks: int) -> BatchStream:
    if isinstance(config, TextConfig):
        if workers is None:
            return config.stream(folder, plan).shard(rank, ranks)
        stream = config.plain_stream(folder, plan).shard(rank, ranks)
        return BackgroundStream(stream, workers) if workers else stream
    if workers or ranks > 1:
        raise ConfigError(f"{folder}: data of kind {config.kind} is read by one process; leave out --workers and --ranks")
    return config.stream(folder, plan)


def _counts(batch: TokenBatch) -> tuple[int, int, int]:
    """Tokens, padding, documents."""
    sides = [side for side in (batch.segments_BT, batch.source_segments_BS) if side is not None]
    padding = sum(int((side == 0).sum()) for side in sides)
    documents = len(batch.tokens_BT) if batch.segments_BT is None else int(batch.segments_BT.amax(1).sum())
    return batch.n_tokens, padding, documents
