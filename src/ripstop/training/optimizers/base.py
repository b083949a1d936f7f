"""What every optimizer's configuration offers: the optimizer of a model's trainable parameters."""

from __future__ import annotations

import torch
from torch import nn

from ripstop.config import Strict


class OptimizerConfig(Strict):
    """An optimizer. Subclasses add `kind: Literal[...]`, settings, and `build`."""

    kind: str

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of every parameter of `model` that requires a gradient.

        The trainer sets the learning rate of each group before each update: the schedule's, times the group's own
        `lr_scale` where it has one.
        """
        raise NotImplementedError(f"{type(self).__name__} must define build(model)")
