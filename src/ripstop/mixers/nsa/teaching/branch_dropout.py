"""Branch dropout: now and then the selected branch is silent, and the compressed one has to find the answer by itself."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ripstop.mixers.nsa.teaching.base import Selection, TeachingConfig


class BranchDropoutConfig(TeachingConfig):
    """With probability `p`, for a whole batch in training, the selected branch's output is 0. Not scaled up otherwise: the
    gates, which are learned, take it as it is."""

    kind: Literal["branch_dropout"] = "branch_dropout"
    p: float = Field(0.5, ge=0, le=1)

    def attend(self, selection: Selection, training: bool) -> tuple[Tensor, Tensor | None]:
        if training and torch.rand(()).item() < self.p:
            return torch.zeros_like(selection.q), None
        return selection.sparse(), None
