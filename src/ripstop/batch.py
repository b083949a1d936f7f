"""A batch of token sequences: what every data source yields and every model, loss and control reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

IGNORE = -100
"""Target of a position that carries no loss."""


@dataclass(frozen=True)
class Batch:
    """Token ids, and what to predict from them.

    tokens_BT: int64, the (decoder's) inputs.
    targets_BT: int64, the token to predict at each position, `IGNORE` where there is none.
    segments_BT: int64, 0 is padding and 1, 2, ... are packed documents; None: one document, no padding.
    source_BS, source_segments_BS: the encoder's inputs, for sequence-to-sequence data.
    n_context: where there is no source, the number of leading columns of `tokens_BT` that hold the information to
        recall; controls replace exactly these (or the source).
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    segments_BT: Tensor | None = None
    source_BS: Tensor | None = None
    source_segments_BS: Tensor | None = None
    n_context: int = 0

    def to(self, device: torch.device | str) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    @property
    def n_tokens(self) -> int:
        """Tokens a model reads, padding and source included."""
        return self.tokens_BT.numel() + (0 if self.source_BS is None else self.source_BS.numel())


class BatchStream(Protocol):
    """An endless stream of training batches whose position is a value that can be saved."""

    def __next__(self) -> Batch: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
