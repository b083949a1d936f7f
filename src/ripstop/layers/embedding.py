"""From token ids to vectors, and from vectors to logits."""

from __future__ import annotations

from torch import Tensor, nn

from ripstop.layers.norms.base import NormConfig


class Embedding(nn.Embedding):
    """A table of vectors drawn from a normal distribution with mean 0 and standard deviation `std`."""

    def __init__(self, vocab_size: int, d_model: int, std: float):
        super().__init__(vocab_size, d_model)
        nn.init.normal_(self.weight, std=std)


class Readout(nn.Module):
    """Final norm and head. The head is its own table, drawn like an embedding's, or the table of `tied_to`."""

    def __init__(self, vocab_size: int, d_model: int, std: float, norm: NormConfig, tied_to: Embedding | None = None):
        super().__init__()
        self.norm = norm.build(d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        if tied_to is None:
            nn.init.normal_(self.head.weight, std=std)
        else:
            self.head.weight = tied_to.weight

    def forward(self, x_BTD: Tensor, at_BT: Tensor | None = None) -> Tensor:
        """Logits (B, T, V), or (N, V) at the N true positions of `at_BT` alone."""
        return self.head(self.norm(x_BTD if at_BT is None else x_BTD[at_BT]))
