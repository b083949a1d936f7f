"""Nothing: the compressed branch is trained by its own output alone, as in arXiv 2502.11089."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ripstop.mixers.nsa.teaching.base import Selection, TeachingConfig


class NoTeachingConfig(TeachingConfig):
    """The paper's way."""

    kind: Literal["none"] = "none"

    def attend(self, selection: Selection, training: bool) -> tuple[Tensor, Tensor | None]:
        return selection.sparse(), None
