"""Batches: what data yields and objectives, models and controls read, and how much of it a training asks for."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor

IGNORE = -100
"""Target of a position that carries no loss."""


class Batch(Protocol):
    """All that the trainer asks of a batch; the rest is between the data and the objective."""

    def to(self, device: torch.device | str) -> Self: ...

    @property
    def n_tokens(self) -> int:
        """Tokens a model reads, padding and source included."""

    @property
    def n_targets(self) -> int:
        """How many things the objective's mean is over."""


class BatchStream(Protocol):
    """An endless stream of training batches whose position is a value that can be saved."""

    def __next__(self) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class DataInfo(Protocol):
    """What a model may ask of the data that it is built for."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""


@dataclass(frozen=True)
class Vocabulary:
    """The least `DataInfo`: a number of token ids."""

    vocab_size: int


@dataclass(frozen=True)
class StreamPlan:
    """What a training asks of its data: so many steps of so many tokens, each in `accumulation` batches.

    tokens_per_step counts what the model reads in one update, padding and source included.
    """

    steps: int
    tokens_per_step: int
    accumulation: int
    seed: int

    @property
    def tokens_per_batch(self) -> int:
        return self.tokens_per_step // self.accumulation


@dataclass(frozen=True)
class TokenBatch:
    """Token ids, and what to predict from them.

    tokens_BT: int64, the (decoder's) inputs.
    targets_BT: int64, the token to predict at each position, `IGNORE` where there is none.
    segments_BT: int64, 0 is padding and 1, 2, ... are packed documents; None: one document, no padding.
    source_BS, source_segments_BS: the encoder's inputs, for sequence-to-sequence data; document n reads source n.
    context_BT: bool, where there is no source: the positions of `tokens_BT` that hold the information to recall.
        Controls replace exactly these (or the source).
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    segments_BT: Tensor | None = None
    source_BS: Tensor | None = None
    source_segments_BS: Tensor | None = None
    context_BT: Tensor | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    @property
    def n_tokens(self) -> int:
        """Tokens a model reads, padding and source included."""
        return self.tokens_BT.numel() + (0 if self.source_BS is None else self.source_BS.numel())

    @property
    def asked_BT(self) -> Tensor:
        """Bool: the positions that have a target."""
        return self.targets_BT != IGNORE

    @property
    def n_targets(self) -> int:
        """Positions that have a target. On a GPU this waits for the device: ask before moving there."""
        return int(self.asked_BT.sum())
