"""Selective copying: values among noise, which are to be said again in their order (Gu and Dao, arXiv 2312.00752).

Two values (8 and 6) at 5 places:

    column         0    1    2   3   4    5    6    7
    tokens_BT     BOS   ~    8   ~   ~    6   ASK  ASK        ~ = NOISE
    targets_BT      .   .    .   .   .    .    8    6         . = IGNORE
    context_BT      .   x    x   x   x    x    .    .         x = what a control replaces

Where the values stand is random, so that what is kept depends on what is read. All answers take the whole row: a test row asks
for the same ones as a training row. A length counts places; the number of values stays.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.data.synthetic import ASK, BOS, FIRST, NOISE, SyntheticConfig


class SelectiveCopyingConfig(SyntheticConfig):
    """`n_values` values at as many different places, each drawn from `n_different`."""

    kind: Literal["selective_copying"] = "selective_copying"
    n_values: int = Field(8, ge=1, le=2**16, description="in each row")
    n_different: int = Field(16, ge=2, le=2**16, description="values to draw from")

    def check_lengths(self) -> None:
        if self.lengths[0] < self.n_values:
            raise ValueError(f"lengths starts at {self.lengths[0]} places, and there are {self.n_values} values; raise it")

    @property
    def n_tokens(self) -> int:
        return FIRST + self.n_different

    @property
    def n_answers(self) -> int:
        return self.n_different

    def row_length(self, length: int) -> int:
        return 1 + length + self.n_values

    def draw(self, length: int, n: int, generator: Generator) -> Tensor:
        places = torch.rand(n, length, generator=generator).topk(self.n_values).indices
        values = torch.randint(FIRST, self.n_tokens, (n, self.n_values), generator=generator)
        return torch.full((n, length), NOISE).scatter_(1, places, values)

    def lay_out(self, shown: Tensor, length: int, every: bool) -> TokenBatch:
        tokens_BT = torch.full((len(shown), self.row_length(length)), ASK)
        tokens_BT[:, 0] = BOS
        tokens_BT[:, 1 : 1 + length] = shown
        targets_BT = torch.full_like(tokens_BT, IGNORE)
        targets_BT[:, 1 + length :] = shown[shown != NOISE].view(-1, self.n_values)
        context_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        context_BT[:, 1 : 1 + length] = True
        return TokenBatch(tokens_BT, targets_BT, context_BT=context_BT)
