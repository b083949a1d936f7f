"""Full and sparse attention by turns, and drawn together: arXiv 2511.20102 (SSA)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ripstop.mixers.nsa.teaching.base import Selection, TeachingConfig


class AlternateConfig(TeachingConfig):
    """With probability `p_full`, for a whole batch in training, the selected branch reads everything.

    alignment: weight of the mean squared difference between the two outputs, each drawn to the other as it stands; 0 saves
    working out both.
    """

    kind: Literal["alternate"] = "alternate"
    p_full: float = Field(0.5, ge=0, le=1)
    alignment: float = Field(1.0, ge=0, le=1e6)

    def attend(self, selection: Selection, training: bool) -> tuple[Tensor, Tensor | None]:
        if not training:
            return selection.sparse(), None
        takes_full = torch.rand(()).item() < self.p_full
        if self.alignment == 0:
            return selection.full() if takes_full else selection.sparse(), None
        full, sparse = selection.full(), selection.sparse()
        loss = (full - sparse.detach()).square().mean() + (full.detach() - sparse).square().mean()
        return full if takes_full else sparse, self.alignment * loss
