"""Number formats of 2 to 32 bits: rounded to nearest or at random, in groups that share a scale, bytes counted.

Neighbours along the last axis share a scale s in fp16, the smallest that is not below max |x| / `largest`, so that nothing is
clipped; formats of 16 bits and more have none. `wire/quantize.py` packs whole numbers of three widths by the same rule, and a
test holds both to the same numbers and bytes; it stands apart because a wire is rounded to nearest alone, and once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

EXPONENT_BITS = 0x7F800000
"""Of a float32."""


@dataclass(frozen=True)
class NumberFormat:
    """bits: of one number without its share of a scale. scaled: whether groups share one."""

    bits: int
    scaled: bool

    @property
    def largest(self) -> float:
        """The largest magnitude that a number has before its scale."""
        raise NotImplementedError(f"{type(self).__name__}: a number format has to define largest")

    def _on_grid(self, x: Tensor, generator: Generator | None) -> Tensor:
        """Each of `x`, less its scale, as one of the two numbers of the format around it. `x` may be overwritten."""
        raise NotImplementedError(f"{type(self).__name__}: a number format has to define _on_grid(self, x, generator)")

    def rounded(self, x: Tensor, group: int, generator: Generator | None = None) -> Tensor:
        """`x` in float32 as the format holds it, in groups of `group` along the last axis.

        With a generator each number goes up or down at random, so that its mean is what it was; else to the nearest, a tie to
        the even one. What is too large for the format, or for a scale in fp16, becomes the largest that there is.
        """
        x = x.float()
        if not self.scaled:
            return self._on_grid(x, generator)
        groups = _grouped(x, group)
        scales = self._scales(groups)
        on_grid = self._on_grid(groups / torch.where(scales == 0, 1, scales), generator)
        return on_grid.mul_(scales).flatten(-2)[..., : x.shape[-1]]

    def n_bytes(self, shape: Sequence[int], group: int) -> int:
        """Bytes of a tensor, packed: the bits of its numbers, and two bytes for each scale."""
        *outer, width = shape
        vectors = torch.Size(outer).numel()
        scales = 2 * vectors * -(-width // group) if self.scaled else 0
        return scales + -(-vectors * width * self.bits // 8)

    def _scales(self, groups: Tensor) -> Tensor:
        wanted = (groups.abs().amax(-1, keepdim=True) / self.largest).clamp(max=torch.finfo(torch.float16).max)
        scales = wanted.half()
        above = (scales.view(torch.int16) + 1).view(torch.float16)
        return torch.where(scales.float() < wanted, above, scales).float()


@dataclass(frozen=True)
class Whole(NumberFormat):
    """Whole numbers from -q to q, q = 2^(bits - 1) - 1. They always have scales: `_on_grid` overwrites what it is given."""

    scaled: bool = True

    @property
    def largest(self) -> float:
        return 2 ** (self.bits - 1) - 1

    def _on_grid(self, x: Tensor, generator: Generator | None) -> Tensor:
        return _whole(x, generator).clamp_(-self.largest, self.largest)


@dataclass(frozen=True)
class Floating(NumberFormat):
    """Of a dtype of torch. Below 2^-126 times its precision a bfloat16 is rounded more coarsely than torch does it."""

    dtype: torch.dtype = torch.float32

    @property
    def largest(self) -> float:
        return torch.finfo(self.dtype).max

    def _on_grid(self, x: Tensor, generator: Generator | None) -> Tensor:
        info, single = torch.finfo(self.dtype), torch.finfo(torch.float32)
        binade = (x.contiguous().view(torch.int32) & EXPONENT_BITS).view(torch.float32)
        spacing = binade.clamp(min=max(info.smallest_normal, single.smallest_normal / info.eps)) * info.eps
        return _whole(x / spacing, generator).mul_(spacing).clamp_(-self.largest, self.largest)

    def rounded(self, x: Tensor, group: int, generator: Generator | None = None) -> Tensor:
        return x.float() if self.dtype == torch.float32 else super().rounded(x, group, generator)


FORMATS: dict[str, NumberFormat] = {
    "fp32": Floating(32, scaled=False),
    "bf16": Floating(16, scaled=False, dtype=torch.bfloat16),
    "fp16": Floating(16, scaled=False, dtype=torch.float16),
    "fp8_e4m3": Floating(8, scaled=True, dtype=torch.float8_e4m3fn),
    "fp8_e5m2": Floating(8, scaled=True, dtype=torch.float8_e5m2),
    **{f"int{bits}": Whole(bits) for bits in range(2, 9)},
}


def _whole(x: Tensor, generator: Generator | None) -> Tensor:
    """`x` to whole numbers, in place."""
    return x.round_() if generator is None else x.add_(torch.rand(x.shape, generator=generator, device=x.device)).floor_()


def _grouped(x: Tensor, group: int) -> Tensor:
    """(..., width) to (..., groups, group), the last group filled up with zeros."""
    missing = -x.shape[-1] % group
    return (F.pad(x, (0, missing)) if missing else x).unflatten(-1, (-1, group))
