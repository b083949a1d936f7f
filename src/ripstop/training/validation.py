"""The loss on held-out batches, measured without leaving a trace in the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ripstop.batch import Batch
from ripstop.config import ConfigError
from ripstop.training.objectives.base import Objective
from ripstop.training.precision import autocast
from ripstop.training.randomness import random_state, restore_random_state


class HeldOut(NamedTuple):
    """loss: mean over all `n` targets. metrics: of the objective, each a mean over batches weighted by their targets."""

    loss: float
    metrics: dict[str, float]
    n: int


def held_out_loss(
    model: nn.Module, objective: Objective, batches: Iterable[Batch], device: torch.device, precision: str
) -> HeldOut:
    """The loss of `model` over all of `batches`.

    The model is in evaluation mode meanwhile; random states and each module's own mode are put back. `ConfigError` where
    there is no target.
    """
    modes = [(module, module.training) for module in model.modules()]
    randomness = random_state()
    sums: list[Tensor] = []
    weighted: dict[str, list[Tensor]] = {}
    n = 0
    model.eval()
    try:
        # no_grad, not inference_mode: what a module caches here must still serve in training
        with torch.no_grad():
            for batch in batches:
                with autocast(device, precision):
                    loss = objective(model, batch.to(device))
                if loss.n:
                    sums.append(loss.sum)
                    n += loss.n
                    for name, value in loss.metrics.items():
                        weighted.setdefault(name, []).append(value * loss.n)
    finally:
        for module, training in modes:
            module.training = training
        restore_random_state(randomness)
    if not n:
        raise ConfigError("training.validate_every: the held-out batches have no target; correct the data, or set it to 0")
    return HeldOut(_total(sums) / n, {name: _total(values) / n for name, values in weighted.items()}, n)


def _total(values: list[Tensor]) -> float:
    return sum(torch.stack(values).tolist())
