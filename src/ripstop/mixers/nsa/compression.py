"""From the keys and values of a block to the one that stands for it: phi of Eq. (7) in arXiv 2502.11089, three ways."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Phi = Literal["mean", "score", "mlp"]
LARGEST_SCORE = 8.0
"""Scores are bent to lie within this bound, so that one token's weight is e^16 times another's at most."""


class Compression(nn.Module):
    """Blocks of `block` tokens, one every `stride`. Heads keep to themselves: (B, S, G, K) -> (B, N, G, K).

    mean: of the block. score: a softmax over the block of a learned score of the keys, the same for keys and values. mlp: the
    mean, and what a convolution over the block and a layer behind it add, with a learned vector for each position inside the
    block; keys and values apart, heads alike.
    """

    def __init__(self, phi: Phi, block: int, stride: int, n_heads: int, head_dim: int):
        super().__init__()
        self.phi, self.block, self.stride = phi, block, stride
        if phi == "score":
            self.score_GK = nn.Parameter(torch.randn(n_heads, head_dim) * 0.1)
        elif phi == "mlp":
            hidden, width = 2 * head_dim, block * head_dim
            self.position_2lK = nn.Parameter(torch.randn(2, block, head_dim) * 0.02)
            self.convolution_2Cl = nn.Parameter(torch.empty(2, hidden, width).uniform_(-(width**-0.5), width**-0.5))
            self.output_2KC = nn.Parameter(torch.empty(2, head_dim, hidden).uniform_(-(hidden**-0.5), hidden**-0.5))

    def forward(self, k_BSGK: Tensor, v_BSGK: Tensor, starts_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """starts_BN: where blocks begin, behind the sequence where there is none; not given: at 0, stride, 2 stride, ...."""
        k, v = self._windows(k_BSGK, starts_BN), self._windows(v_BSGK, starts_BN)  # (B, N, l, G, K)
        if self.phi == "score":
            score = (k * self.score_GK).sum(-1, keepdim=True)
            weights = (LARGEST_SCORE * torch.tanh(score / LARGEST_SCORE)).softmax(2)
            return (k * weights).sum(2), (v * weights).sum(2)
        if self.phi == "mean":
            return k.mean(2), v.mean(2)
        return self._mlp(k, 0), self._mlp(v, 1)

    def _mlp(self, x_BNlGK: Tensor, which: int) -> Tensor:
        with_position = x_BNlGK + self.position_2lK[which].unsqueeze(1)
        hidden = F.silu(F.linear(with_position.transpose(2, 3).flatten(3), self.convolution_2Cl[which]))
        return F.linear(hidden, self.output_2KC[which]) + x_BNlGK.mean(2)

    def _windows(self, x_BSGK: Tensor, starts_BN: Tensor | None) -> Tensor:
        n_batch, n_tokens, n_groups, width = x_BSGK.shape
        if starts_BN is not None:
            index = starts_BN.unsqueeze(2) + torch.arange(self.block, device=x_BSGK.device)
            row = torch.arange(n_batch, device=x_BSGK.device)[:, None, None]
            return x_BSGK[row, index.clamp(max=n_tokens - 1)]
        if n_tokens < self.block:
            return x_BSGK.new_empty(n_batch, 0, self.block, n_groups, width)
        return x_BSGK.unfold(1, self.block, self.stride).permute(0, 1, 4, 2, 3)


def num_params(phi: Phi, block: int, n_heads: int, head_dim: int) -> int:
    if phi == "score":
        return n_heads * head_dim
    return 2 * (block * head_dim + 2 * head_dim * block * head_dim + 2 * head_dim * head_dim) if phi == "mlp" else 0


def flops_per_block(phi: Phi, block: int, n_heads: int, head_dim: int) -> int:
    """Of the matrix products, keys and values of all heads."""
    return 2 * n_heads * 2 * (2 * head_dim * block * head_dim + 2 * head_dim * head_dim) if phi == "mlp" else 0
