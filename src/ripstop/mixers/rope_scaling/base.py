"""What every scaling of RoPE offers: its frequencies, and what it makes of the softmax's scale."""

from __future__ import annotations

from torch import Tensor

from ripstop.config import Strict


class RopeScalingConfig(Strict):
    """Subclasses add `kind: Literal[...]` and implement what raises here."""

    kind: str

    def frequencies(self, width: int, base: float) -> Tensor:
        """The angles that one position adds, (width / 2,), in float64 on the CPU."""
        raise NotImplementedError(f"{type(self).__name__}: a scaling of RoPE has to define frequencies(self, width, base)")

    def sharpening(self) -> float:
        """What the softmax's logits are multiplied by, beside 1 / sqrt(K)."""
        return 1.0
