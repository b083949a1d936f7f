"""Lion: the sign of a momentum, with weight decay on matrices only."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from ripstop.training.optimizers.adamw import Beta, parameter_groups
from ripstop.training.optimizers.base import OptimizerConfig
from ripstop.training.optimizers.uncompiled import Uncompiled


class LionConfig(OptimizerConfig):
    """Lion (arXiv 2302.06675). Every step moves each number by the learning rate: the authors take 3 to 10 times less of it
    than for AdamW, and as many times more weight decay."""

    kind: Literal["lion"] = "lion"
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    weight_decay: float = Field(0.1, ge=0)

    def build(self, model: nn.Module) -> Lion:
        # lr is the trainer's to set
        return Lion(parameter_groups(model, self.weight_decay), {"lr": 0.0, "betas": self.betas})


class Lion(Uncompiled):
    """Algorithm 2 of arXiv 2302.06675: one state a parameter, half of AdamW's."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """closure: None; it is torch's."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            momenta = [self.state[p]["exp_avg"] for p in parameters]
            beta1, beta2 = group["betas"]
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            directions = torch._foreach_mul(momenta, beta1)
            torch._foreach_add_(directions, gradients, alpha=1 - beta1)
            torch._foreach_sign_(directions)
            torch._foreach_add_(parameters, directions, alpha=-group["lr"])
            torch._foreach_mul_(momenta, beta2)
            torch._foreach_add_(momenta, gradients, alpha=1 - beta2)
