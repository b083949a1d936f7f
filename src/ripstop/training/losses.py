"""The training loss: mean cross-entropy over the positions that have a target."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.models.base import Model


def cross_entropy(model: Model, batch: TokenBatch) -> tuple[Tensor, int]:
    """Mean over the N target positions of -log p(target), in nats and at least float32; and N.

    Logits are computed at those positions only. `ConfigError` where the batch has none: its mean does not exist.
    """
    at_BT = batch.asked_BT
    logits_NV = model(batch, at_BT=at_BT)
    targets_N = batch.targets_BT[at_BT]  # after the model: on CUDA this waits for the device
    if targets_N.numel() == 0:
        shape = tuple(batch.targets_BT.shape)
        raise ConfigError(f"the batch of shape {shape} has no target: every position is IGNORE; correct the data")
    wide = torch.promote_types(logits_NV.dtype, torch.float32)
    return F.cross_entropy(logits_NV.to(wide), targets_N), targets_N.numel()
