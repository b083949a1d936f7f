"""The size of the state, by the module's former name."""

from __future__ import annotations

from collections.abc import Iterator

from ripstop.data.base import RowLength
from ripstop.evaluation import state_size as part
from ripstop.models.base import Model, ModelConfig
from ripstop.records import Measurement


def state_size(model: Model, config: ModelConfig, seq_len: int) -> Iterator[Measurement]:
    """The state after `seq_len` tokens."""
    return part.state_size(model, config, RowLength(seq_len))
