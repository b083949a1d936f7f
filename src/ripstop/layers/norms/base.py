"""What every norm offers: a layer over the last axis, and what it weighs and costs."""

from __future__ import annotations

from torch import nn

from ripstop.config import Strict


class NormConfig(Strict):
    """A norm in front of a mixer, a cross-attention, an mlp or the head. Subclasses add `kind: Literal[...]` and implement
    what raises here."""

    kind: str

    def build(self, d_model: int) -> nn.Module:
        """The layer: (..., D) to (..., D)."""
        raise NotImplementedError(f"{type(self).__name__}: a norm has to define build(self, d_model)")

    def num_params(self, d_model: int) -> int:
        """Parameters of the built layer."""
        raise NotImplementedError(f"{type(self).__name__}: a norm has to define num_params(self, d_model)")

    def flops_per_token(self, d_model: int) -> int:
        """Of matrix products alone, as everywhere in the models' FLOPs: none, unless the norm says otherwise."""
        return 0
