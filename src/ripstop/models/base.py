"""What every model offers: logits for a batch, and the same again by prefill and step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ripstop.batch import TokenBatch
from ripstop.config import Strict


class Model(nn.Module):
    """Token ids in, logits out."""

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V); with a boolean mask `at_BT` at its N positions alone, (N, V), which saves the head work."""
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        """The repeated units, members of the outermost `nn.ModuleList`s: what activation checkpointing recomputes and
        `torch.compile` compiles one by one."""
        return list(_listed(self))

    def init_state(
        self, batch_size: int, max_len: int, source_BS: Tensor | None = None, source_segments_BS: Tensor | None = None
    ) -> Any:
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

    def layout(self) -> dict[str, Any]:
        """What the settings come to: patterns written out, positions derived. Printed at the start of a run."""
        raise NotImplementedError

    def params_by_part(self, vocab_size: int) -> dict[str, int]:
        """Parameters of each part of the built model; the head's are 0 where it is tied."""
        raise NotImplementedError

    def num_params(self, vocab_size: int) -> int:
        """Parameters of the built model, tied ones once."""
        return sum(self.params_by_part(vocab_size).values())

    def flops_per_token(self, vocab_size: int, seq_len: int) -> int:
        """Forward FLOPs per (target) token at length `seq_len`; multiply-adds count as 2."""
        raise NotImplementedError

    def state_bytes(self, seq_len: int, dtype: torch.dtype = torch.bfloat16) -> int:
        """Bytes of state that one sequence holds after `seq_len` tokens."""
        raise NotImplementedError


def _listed(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _listed(child)
