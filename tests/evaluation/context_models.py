"""Models whose use of context is known: one that looks at the token before, one that looks for a token anywhere before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ripstop.batch import TokenBatch
from ripstop.models.base import Model


class Bigram(Model):
    """Logits of the token before alone, so that no context reaches beyond the first token of a piece."""

    def __init__(self, vocab_size: int, alike: tuple[int, ...] = ()):
        """alike: tokens after which the same follows, such as BOS and what ends a piece."""
        super().__init__()
        table_VV = torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(0))
        if alike:
            table_VV[list(alike)] = table_VV[alike[0]].clone()
        self.table_VV = nn.Parameter(table_VV)

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        logits_BTV = self.table_VV[batch.tokens_BT]
        return logits_BTV if at_BT is None else logits_BTV[at_BT]


class Announced(Model):
    """Expects what was announced: after token a of the target, `announced[a]` is likely for the rest of the row."""

    def __init__(self, vocab_size: int, announced: dict[int, int]):
        super().__init__()
        self.vocab_size, self.announced = vocab_size, announced
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        logits_BTV = torch.zeros(*batch.tokens_BT.shape, self.vocab_size)
        for sign, expected in self.announced.items():
            seen_BT = (batch.tokens_BT == sign).cumsum(1) > 0
            logits_BTV[..., expected] += 5.0 * seen_BT
        return logits_BTV if at_BT is None else logits_BTV[at_BT]
