"""Multi-query associative recall across a gap: filler stands between what is shown and what is asked.

Two pairs in a row of 11 tokens, f = ids that are neither keys nor values:

    tokens_BT    BOS  17  42  12  40   f   f   f  SEP  12  17
    targets_BT     .   .   .   .   .   .   .   .   .   40  42

So a row gets longer at equal pairs, and what a model has to hold does not. Training rows have every length from that without a
gap to `block_size`, all equally likely, and a batch has one; over the curriculum the longest grows. A test row may be longer.
Training batch i is a function of the stream's seed and i alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor

from ripstop.batch import IGNORE, StreamPlan, TokenBatch
from ripstop.config import ConfigError
from ripstop.data.base import DataConfig, RowLength
from ripstop.data.batching import derived_seed
from ripstop.data.mqar import MqarConfig, MqarStream, training_batch


class MqarGapConfig(DataConfig):
    """pairs: what is shown and asked, in layout decoder and format separator. Its ids come first, the filler's behind them."""

    kind: Literal["mqar_gap"] = "mqar_gap"
    pairs: MqarConfig
    n_filler: int = Field(32, ge=1, le=2**20, description="ids of filler")
    block_size: int = Field(64, ge=8, le=2**20, description="tokens of the longest row of training")
    files: ClassVar[tuple[str, ...]] = MqarConfig.files

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        if (self.pairs.layout, self.pairs.format) != ("decoder", "separator"):
            raise ValueError("pairs: a gap needs layout decoder and format separator")
        longest = self.pairs.row_length(self.pairs.num_pairs[-1])
        if self.block_size < longest:
            raise ValueError(f"block_size is {self.block_size}, and a row of {self.pairs.num_pairs[-1]} pairs takes {longest}")
        return self

    @property
    def longest_row(self) -> RowLength:
        return RowLength(max(self.block_size, self.pairs.longest_row.tokens))

    def vocab_size(self, data: Path) -> int:
        return self.pairs.n_tokens + self.n_filler

    def stream(self, data: Path, plan: StreamPlan) -> MqarGapStream:
        return MqarGapStream(self, plan)

    def validation(self, data: Path, plan: StreamPlan) -> Iterator[TokenBatch]:
        """Examples as in `MqarConfig.validation`, with gaps drawn as training draws them."""
        for number, batch in enumerate(self.pairs.validation(data, plan)):
            yield self._in_training(batch, derived_seed("valid gap", self.pairs.test_seed, number), plan.tokens_per_batch)

    def write(self, out: Path) -> dict[str, Any]:
        content = self.pairs.write(out)
        digest = hashlib.sha256(content["sha256"].encode())
        for index, num_pairs in enumerate(self.pairs.num_pairs):
            digest.update(self.batch(num_pairs, 16 * self.block_size, 0, index).tokens_BT.numpy().tobytes())
        return {**content, "vocab_size": self.vocab_size(out), "sha256": digest.hexdigest()}

    def batch(self, num_pairs: int, n_tokens: int, seed: int, index: int, grown: float = 1.0) -> TokenBatch:
        """Training batch `index` of the stream with this seed, of at most `n_tokens`. grown: the part of the widest gap that
        the curriculum has reached."""
        rows = n_tokens // self.pairs.row_length(num_pairs)
        made = training_batch(self.pairs, num_pairs, rows, seed, index)
        return self._in_training(made, derived_seed("gap", seed, index), n_tokens, grown)

    def test_rows(self, data: Path, num_pairs: int, n_rows: int, length: int) -> TokenBatch:
        """The first test examples with `num_pairs` pairs in rows of `length` tokens. Of two lengths the gap of the longer one
        begins as that of the shorter."""
        batch = next(self.pairs.test_batches(data, num_pairs, n_rows))
        if length < batch.tokens_BT.shape[1]:
            raise ConfigError(
                f"a row of {num_pairs} pairs takes {batch.tokens_BT.shape[1]} tokens, and {length} are given to it"
            )
        return self.with_gap(batch, length - batch.tokens_BT.shape[1], derived_seed("test gap", self.pairs.test_seed))

    def with_gap(self, batch: TokenBatch, gap: int, seed: int) -> TokenBatch:
        """A batch of `MqarConfig` with `gap` tokens of filler in front of its SEP."""
        assert batch.context_BT is not None
        rows, shown = len(batch.tokens_BT), int(batch.context_BT[0].sum())
        # column by column, so that a longer gap begins as a shorter one does
        filler_TB = torch.randint(self.n_filler, (gap, rows), generator=Generator().manual_seed(seed % 2**63))
        filler_BT = self.pairs.n_tokens + filler_TB.T

        def opened(x_BT: Tensor, inside_BT: Tensor) -> Tensor:
            return torch.cat([x_BT[:, :shown], inside_BT.to(x_BT), x_BT[:, shown:]], 1)

        return replace(
            batch,
            tokens_BT=opened(batch.tokens_BT, filler_BT),
            targets_BT=opened(batch.targets_BT, torch.full_like(filler_BT, IGNORE)),
            context_BT=opened(batch.context_BT, torch.zeros_like(filler_BT)),
        )

    def _in_training(self, batch: TokenBatch, seed: int, n_tokens: int, grown: float = 1.0) -> TokenBatch:
        """With a gap of any length that is trained by then, and as many rows as then fit."""
        n_time = batch.tokens_BT.shape[1]
        gap = seed % (int(grown * (self.block_size - n_time)) + 1)
        rows = max(1, n_tokens // (n_time + gap))
        fewer = {name: getattr(batch, name)[:rows] for name in ("tokens_BT", "targets_BT", "context_BT")}
        return self.with_gap(replace(batch, **fewer), gap, seed)


class MqarGapStream:
    """Endless training batches; its whole state is the position."""

    def __init__(self, config: MqarGapConfig, plan: StreamPlan):
        self.config, self.plan = config, plan
        self._pairs = MqarStream(config.pairs, plan)

    def __next__(self) -> TokenBatch:
        position = self._pairs.position
        step = position // self.plan.accumulation
        growing = self.config.pairs.curriculum * self.plan.steps
        grown = min(1.0, step / growing) if growing else 1.0
        self._pairs.position += 1
        return self.config.batch(self._pairs.num_pairs(step), self.plan.tokens_per_batch, self.plan.seed, position, grown)

    def state_dict(self) -> dict[str, Any]:
        return self._pairs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pairs.load_state_dict(state)
