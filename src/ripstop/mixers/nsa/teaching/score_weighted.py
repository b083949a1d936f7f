"""Blocks weighted by their scores: attention inside each block, and the blocks' outputs summed. arXiv 2511.23319 (HSA)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ripstop.mixers.nsa.teaching.base import Selection, TeachingConfig

LEAST = 1e-6
"""Added to each block's importance: where nothing is compressed yet, all weigh the same."""


class ScoreWeightedConfig(TeachingConfig):
    """The weights are the selected blocks' importance, divided by its sum, and gradients pass through them. Part of the model:
    it decodes so too."""

    kind: Literal["score_weighted"] = "score_weighted"

    def attend(self, selection: Selection, training: bool) -> tuple[Tensor, Tensor | None]:
        importance = (selection.importance + LEAST).masked_fill(selection.ids < 0, 0)
        return selection.sparse(importance / importance.sum(-1, keepdim=True)), None
