"""What every model offers: logits for a batch, and the same again by prefill and step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ripstop.batch import Batch
from ripstop.config import Strict


class Model(nn.Module):
    """Token ids in, logits out."""

    def forward(self, batch: Batch, at_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V); with a boolean mask `at_BT` only at its N positions, (N, V), which saves the head's work."""
        raise NotImplementedError

    def init_state(self, batch_size: int, max_len: int, source_BS: Tensor | None = None,
                   source_segments_BS: Tensor | None = None) -> Any:
        """Empty past with room for `max_len` tokens; an encoder-decoder reads its source here."""
        raise NotImplementedError

    def prefill(self, tokens_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read a chunk of the prompt. Logits after its last token, (B, V). The given state is consumed."""
        raise NotImplementedError

    def step(self, tokens_B: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token. Logits (B, V). The given state is consumed."""
        raise NotImplementedError


class ModelConfig(Strict):
    """An architecture. Subclasses add `kind: Literal[...]` and implement what raises here."""

    kind: str

    def build(self, vocab_size: int) -> Model:
        raise NotImplementedError

    def num_params(self, vocab_size: int) -> int:
        """Parameters of the built model, tied ones once."""
        raise NotImplementedError

    def flops_per_token(self, vocab_size: int, seq_len: int) -> int:
        """Forward FLOPs per (target) token at length `seq_len`; multiply-adds count as 2."""
        raise NotImplementedError

    def state_bytes(self, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        """Bytes of state that one sequence holds after `seq_len` tokens."""
        raise NotImplementedError
