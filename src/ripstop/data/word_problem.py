"""The word problem of a symmetric group: permutations one after the other, and what all of them come to so far.

With 2 things there are two permutations, and the task is parity. Those of 3 things do not commute; those of 5 are the smallest
symmetric group that is not solvable, on which the word problem is complete for NC1 (Barrington 1989; Merrill et al.,
arXiv 2404.08819). Permutations are numbered in the order of itertools.permutations, the identity is 0, and number g is the id
5 + g. Three permutations of 3 things, where (0 1) is number 2 and (1 2) number 1, and a training row:

    column         0    1   2   3
    tokens_BT     BOS   7   6   6
    targets_BT      .   7   9   7          . = IGNORE; a test row has the last target alone
    context_BT      .   x   x   x          x = what a control replaces

Number 4 takes 0 to 2, 1 to 0 and 2 to 1: first (0 1) is applied, then (1 2). A length counts permutations. With `swaps` a word
holds swaps of two things and the identity alone (Grazzi et al., arXiv 2411.12537): each swap is one reflection, and together
they reach every permutation.
"""

from __future__ import annotations

import functools
import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from ripstop.batch import IGNORE, TokenBatch
from ripstop.data.synthetic import BOS, FIRST, SyntheticConfig


class WordProblemConfig(SyntheticConfig):
    """Every permutation of `n_things` is drawn equally often, or each that moves two of them at most."""

    kind: Literal["word_problem"] = "word_problem"
    n_things: int = Field(ge=2, le=6, description="that are permuted: 2 for parity, 3 for S3, 5 for S5")
    swaps: bool = Field(False, description="words of swaps and the identity alone")

    def check_lengths(self) -> None:
        """A training row answers on its way, so that a shorter test could be its beginning."""
        if self.test_lengths[0] < self.lengths[-1]:
            raise ValueError(
                f"test_lengths starts at {self.test_lengths[0]}, and rows of {self.lengths[-1]} are trained on, which may "
                f"begin as a test does; start at {self.lengths[-1]}, or train on shorter rows"
            )

    @property
    def n_tokens(self) -> int:
        return FIRST + self.n_answers

    @property
    def n_answers(self) -> int:
        return len(_products(self.n_things))

    def row_length(self, length: int) -> int:
        return 1 + length

    def draw(self, length: int, n: int, generator: Generator) -> Tensor:
        letters = _swaps(self.n_things) if self.swaps else torch.arange(self.n_answers)
        return letters[torch.randint(len(letters), (n, length), generator=generator)]

    def lay_out(self, shown: Tensor, length: int, every: bool) -> TokenBatch:
        tokens_BT = torch.full((len(shown), 1 + length), BOS)
        tokens_BT[:, 1:] = FIRST + shown
        targets_BT = torch.full_like(tokens_BT, IGNORE)
        asked = slice(1 if every else length, None)
        targets_BT[:, asked] = FIRST + prefix_products(shown, self.n_things)[:, asked.start - 1 :]
        return TokenBatch(tokens_BT, targets_BT, context_BT=tokens_BT != BOS)


def prefix_products(words: Tensor, n_things: int) -> Tensor:
    """What the first 1, 2, ... permutations of each word come to, numbers as in `words`, (words, length)."""
    products = _products(n_things)
    so_far = torch.zeros_like(words)
    reached = torch.zeros_like(words[:, 0])
    for t in range(words.shape[1]):
        reached = products[reached, words[:, t]]
        so_far[:, t] = reached
    return so_far


def _swaps(n_things: int) -> Tensor:
    """Numbers of the permutations that move two things at most."""
    permutations = itertools.permutations(range(n_things))
    moved = [sum(to != thing for thing, to in enumerate(permutation)) for permutation in permutations]
    return torch.tensor([number for number, n in enumerate(moved) if n <= 2])


@functools.cache
def _products(n_things: int) -> Tensor:
    """[a, b] is the number of the permutation that applies a, then b."""
    permutations = list(itertools.permutations(range(n_things)))
    number = {permutation: i for i, permutation in enumerate(permutations)}
    return torch.tensor([[number[tuple(b[thing] for thing in a)] for b in permutations] for a in permutations])
