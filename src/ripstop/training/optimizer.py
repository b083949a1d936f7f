"""AdamW with weight decay on matrices only, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from ripstop.training.config import TrainingConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: parameters with two axes or more decay; embeddings, norms, biases and other vectors do not.

    A tied head is the embedding's own parameter and so does not decay either.
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decays = {id(p): p.ndim >= 2 and id(p) not in embeddings for p in parameters}
    return [
        {"params": [p for p in parameters if decays[id(p)]], "weight_decay": weight_decay},
        {"params": [p for p in parameters if not decays[id(p)]], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101), eps 1e-8."""
    # fused: one pass over each parameter, 3 to 5 times faster than the loop on a CPU too
    return torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr, betas=config.betas, fused=True)


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
