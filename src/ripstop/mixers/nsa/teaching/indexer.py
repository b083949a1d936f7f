"""An indexer's loss: the scores that select are drawn to where dense attention looks. DeepSeek-V3.2, arXiv 2512.02556."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ripstop.mixers.nsa.teaching.base import Selection, TeachingConfig
from ripstop.ops.sparse_attention import block_mass, position_of

LEAST = 1e-6
"""Added to each block's importance, so that one that has none yet can be taught."""


class IndexerConfig(TeachingConfig):
    """Adds `weight` times the mean, over queries that have a choice, of KL(p || r): p is the mass that each block has in dense
    attention with the selected branch's queries and keys, summed over a group's heads, r the blocks' importance; both over the
    blocks that are not read in any case. The target is taken as it stands. Takes T x S scores in training.
    """

    kind: Literal["indexer"] = "indexer"
    weight: float = Field(1.0, gt=0, le=1e6)

    def attend(self, selection: Selection, training: bool) -> tuple[Tensor, Tensor | None]:
        return selection.sparse(), self.weight * self._divergence(selection) if training else None

    def _divergence(self, selection: Selection) -> Tensor:
        blocks, documents, n_past = selection.blocks, selection.documents, selection.n_past
        ids_BTGM, importance_BTGM = selection.importance_of_all()
        own = position_of(selection.q.shape[1], n_past, documents, ids_BTGM.device)[..., None, None] // blocks.select_block
        free = (ids_BTGM >= blocks.n_first) & (ids_BTGM <= own - blocks.n_local)
        with torch.no_grad():
            mass_BTGM = block_mass(selection.q, selection.k, blocks.select_block, documents).masked_fill(~free, 0)
            total = mass_BTGM.sum(-1, keepdim=True)
            p = mass_BTGM / total.clamp(min=torch.finfo(total.dtype).tiny)
        r = (importance_BTGM + LEAST).masked_fill(~free, 0)
        log_r = (r / r.sum(-1, keepdim=True).clamp(min=LEAST)).masked_fill(~free, 1).log()
        divergence_BTG = (torch.special.xlogy(p, p) - p * log_r).sum(-1)
        return divergence_BTG.sum() / (total > 0).sum().clamp(min=1)
