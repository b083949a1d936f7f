"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from ripstop.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Of update `step` = 0, 1, ...: linear up to `lr` over the warm-up, then half a cosine.

    The last update, `steps - 1`, has `lr * min_lr_ratio`.
    """
    warmup = round(config.warmup * config.steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step + 1 - warmup) / (config.steps - warmup)
    low = config.lr * config.min_lr_ratio
    return low + (config.lr - low) * (1 + math.cos(math.pi * progress)) / 2
