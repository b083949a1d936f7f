"""Cross-entropy of the next token at the positions that have a target."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F  # noqa: N812

from ripstop.batch import TokenBatch
from ripstop.models.base import Model
from ripstop.training.objectives.base import Loss, Objective, ObjectiveConfig


class CrossEntropyConfig(ObjectiveConfig):
    """It has no settings."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    def build(self) -> Objective:
        return cross_entropy


def cross_entropy(model: Model, batch: TokenBatch) -> Loss:
    """Sum over the N target positions of -log p(target), in nats and at least float32.

    Logits are computed at those positions only. The metric `accuracy` is the part of them whose most likely token is the
    target; 0 where there is none.
    """
    at_BT = batch.asked_BT
    logits_NV = model(batch, at_BT=at_BT)
    targets_N = batch.targets_BT[at_BT]  # after the model: on CUDA this waits for the device
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    n = targets_N.numel()
    correct_N = logits_NV.detach().argmax(-1) == targets_N
    loss = F.cross_entropy(logits_NV.to(wide), targets_N, reduction="sum")
    return Loss(loss, n, {"accuracy": correct_N.float().sum() / max(n, 1)})
