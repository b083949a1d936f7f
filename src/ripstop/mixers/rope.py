"""Rotary positions with their frequencies in a buffer: computed once, in the checkpoint of no model, exact in any precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from ripstop.mixers.rope_scaling.base import RopeScalingConfig
from ripstop.ops.rotary_scaling import plain_frequencies, turn


class Rope(nn.Module):
    """Turns queries and keys of `width`, which is even, by their positions.

    The buffer is at least float32 in a model of half precision: in bfloat16 positions above 256 would coincide.
    """

    frequency: Tensor

    def __init__(self, width: int, base: float, scaling: RopeScalingConfig | None = None):
        super().__init__()
        self.width, self.base, self.scaling = width, base, scaling
        frequency = self._frequencies(torch.get_default_dtype(), torch.get_default_device())
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, position: Tensor, *x_BTHK: Tensor) -> list[Tensor]:
        """Each of `x_BTHK` turned, the angles computed once for all of them. position: (T,) or (B, T), absolute."""
        dtype = torch.promote_types(x_BTHK[0].dtype, torch.float32)
        angle = position.to(dtype).unsqueeze(-1) * self.frequency.to(dtype)
        cos, sin = angle.cos().unsqueeze(-2), angle.sin().unsqueeze(-2)
        return [turn(x, cos, sin) for x in x_BTHK]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """The buffer goes where the model goes, and its numbers are made anew: a cast would round them, and `to_empty`, which
        gives memory to a model drawn on the meta device, would leave in it whatever was there."""
        super()._apply(fn, recurse)
        self.frequency = self._frequencies(self.frequency.dtype, self.frequency.device)
        return self

    def _frequencies(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        if self.scaling is None:
            exact = plain_frequencies(self.width, self.base)
        else:
            exact = self.scaling.frequencies(self.width, self.base)
        return exact.to(device, torch.promote_types(dtype, torch.float32))
