"""What a model's memory of the past weighs, counted on the tensors of its real state."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ripstop.mixers.base import held_bytes
from ripstop.models.base import Model, ModelConfig
from ripstop.records import Measurement


def state_size(model: Model, config: ModelConfig, seq_len: int) -> Iterator[Measurement]:
    """Bytes of state that one sequence of `seq_len` tokens holds: counted, and by the analytic formula beside it."""
    weight = next(model.parameters())
    tokens_BT = torch.zeros(1, seq_len, dtype=torch.int64, device=weight.device)
    _, state = model.prefill(tokens_BT, model.init_state(1, seq_len))
    yield Measurement("state_bytes", held_bytes(state), "bytes", 1, {"seq_len": seq_len})
    formula = config.state_bytes(seq_len, weight.dtype)
    yield Measurement("state_bytes_formula", formula, "bytes", 1, {"seq_len": seq_len})
