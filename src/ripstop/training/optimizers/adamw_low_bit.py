"""AdamW whose two moments are kept in 8 bits, by torchao; parameters and arithmetic stay in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from ripstop.config import ConfigError
from ripstop.training.optimizers.adamw import Beta, parameter_groups
from ripstop.training.optimizers.base import OptimizerConfig


class AdamwLowBitConfig(OptimizerConfig):
    """AdamW (arXiv 1711.05101), eps 1e-8, with moments in blocks of 256 numbers and a float32 scale a block.

    A parameter of fewer than 4,096 numbers, or of no multiple of 256, keeps its moments in float32. Along the same 200
    gradients of a tiny model, weights end within 3 % (8bit) and 7 % (fp8) of the way that moments in float32 take them.
    """

    kind: Literal["adamw_low_bit"] = "adamw_low_bit"
    moments: Literal["8bit", "fp8"] = Field(
        "8bit", description="8bit: the dynamic codes of arXiv 2110.02861; fp8: float8_e4m3fn"
    )
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    weight_decay: float = Field(0.01, ge=0)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(model, self.weight_decay)
        _check(self.moments, [p for group in groups for p in group["params"]])
        return _optimizer(self.moments)(groups, lr=0.0, betas=self.betas)


def _check(moments: str, parameters: list[nn.Parameter]) -> None:
    """`ConfigError` where a GPU has no numbers of 8 bits."""
    device = parameters[0].device
    if moments == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise ConfigError(
            f"training.optimizer.moments: {torch.cuda.get_device_name(device)} has no fp8, which needs compute capability 8.9; "
            "set it to '8bit'"
        )


@functools.cache
def _optimizer(moments: str) -> Callable[..., torch.optim.Optimizer]:
    """torchao's class, which is told the learning rate as the trainer tells it, and compiles nothing for a CPU."""
    try:
        import torchao.optim
    except ImportError as error:
        raise ConfigError(
            f"training.optimizer.kind: adamw_low_bit needs torchao, which cannot be imported ({error}); "
            "install it with `pip install -c constraints.txt torchao`, or set kind to 'adamw'"
        ) from None
    base: Any = torchao.optim.AdamW8bit if moments == "8bit" else torchao.optim.AdamWFp8

    class LowBitAdamW(base):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            """closure: None; it is torch's."""
            device = self.param_groups[0]["params"][0].device
            for group in self.param_groups:
                group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32)
            # half a minute of compiling for each shape is longer than most trainings on a CPU
            with torch.compiler.set_stance("force_eager" if device.type == "cpu" else "default"):
                super().step()

    return LowBitAdamW
