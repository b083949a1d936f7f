"""Likelihood: the loss per target token, teacher-forced."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F

from ripstop.batch import TokenBatch
from ripstop.models.base import Model


def loss_per_token(model: Model, batches: Iterable[TokenBatch]) -> tuple[float, int]:
    """Mean negative log-likelihood in nats over all target positions of all batches (not a mean of batch means)."""
    total, count = 0.0, 0
    device = next(model.parameters()).device
    for batch in batches:
        batch = batch.to(device)
        asked_BT = batch.asked_BT
        logits_NV = model(batch, asked_BT).float()
        total += F.cross_entropy(logits_NV, batch.targets_BT[asked_BT], reduction="sum").item()
        count += int(asked_BT.sum())
    return total / count, count
