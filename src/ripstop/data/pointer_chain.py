"""Pointers to be followed: where does one get from a node in 1, 2, ... hops? Each hop needs what the one before found.

Sanford et al. (arXiv 2402.09268) study such a task. The pointers of a row make one cycle of all nodes, so that no node comes
twice. Three nodes (5 -> 7, 7 -> 6, 6 -> 5), two hops from node 7, a training row:

    column         0    1   2   3    4   5   6    7   8   9    10   11
    tokens_BT     BOS   7   6  SEP   5   7  SEP   6   5  SEP   7   ASK
    targets_BT      .   .   .   .    .   .   .    .   .   .    6    5       . = IGNORE; a test row has the last target alone
    context_BT      .   x   x   x    x   x   x    x   x   x    .    .       x = what a control replaces

With several `n_chains` the start and the ASKs come again for each. A length counts hops; the number of nodes stays.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.data.synthetic import ASK, BOS, FIRST, SEP, SyntheticConfig


class PointerChainConfig(SyntheticConfig):
    """Pointers are shown in random order, and starts are different nodes, equally likely."""

    kind: Literal["pointer_chain"] = "pointer_chain"
    n_nodes: int = Field(16, ge=3, le=2**12)
    n_chains: int = Field(1, ge=1, le=2**12, description="starts that a row asks for")

    def check_lengths(self) -> None:
        if self.n_chains > self.n_nodes:
            raise ValueError(f"n_chains asks for {self.n_chains} different starts, and n_nodes is {self.n_nodes}")
        if self.test_lengths[-1] >= self.n_nodes:
            raise ValueError(f"{self.test_lengths[-1]} hops lead around the cycle of {self.n_nodes} nodes; raise n_nodes")

    @property
    def n_tokens(self) -> int:
        return FIRST + self.n_nodes

    @property
    def n_answers(self) -> int:
        return self.n_nodes

    def row_length(self, length: int) -> int:
        return 1 + 3 * self.n_nodes + self.n_chains * length

    def draw(self, length: int, n: int, generator: Generator) -> Tensor:
        """From and to of each pointer, one after the other, then the starts: nodes from 0 on."""
        cycle, order, starts = (torch.rand(n, self.n_nodes, generator=generator).argsort(1) for _ in range(3))
        pointers = torch.stack([cycle, cycle.roll(-1, 1)], 2).gather(1, order.unsqueeze(2).expand(-1, -1, 2))
        return torch.cat([pointers.flatten(1), starts[:, : self.n_chains]], 1)

    def lay_out(self, shown: Tensor, length: int, every: bool) -> TokenBatch:
        n, width = len(shown), 3 * self.n_nodes
        pointers, starts = shown[:, : 2 * self.n_nodes].unflatten(1, (-1, 2)), shown[:, 2 * self.n_nodes :]
        following = torch.zeros(n, self.n_nodes, dtype=torch.long).scatter_(1, pointers[:, :, 0], pointers[:, :, 1])
        reached = [starts]
        for _ in range(length):
            reached.append(following.gather(1, reached[-1]))
        asked = torch.full((n, self.n_chains, length), ASK)
        asked[:, :, 0] = FIRST + starts
        answers = FIRST + torch.stack(reached[1:], 2)
        if not every:
            answers[:, :, :-1] = IGNORE
        context = torch.full((n, self.n_nodes, 3), SEP)
        context[:, :, :2] = FIRST + pointers
        tokens_BT = torch.cat([torch.full((n, 1), BOS), context.flatten(1), asked.flatten(1)], 1)
        targets_BT = torch.full_like(tokens_BT, IGNORE)
        targets_BT[:, 1 + width :] = answers.flatten(1)
        context_BT = torch.zeros_like(tokens_BT, dtype=torch.bool)
        context_BT[:, 1 : 1 + width] = True
        return TokenBatch(tokens_BT, targets_BT, context_BT=context_BT)
