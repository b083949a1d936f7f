"""Cross-entropy, and what teaches sparse attention its selection; its gates beside the loss, so that a dead branch is seen."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ripstop.batch import TokenBatch
from ripstop.mixers.nsa.trace import BRANCHES, Trace, tracing
from ripstop.models.base import Model
from ripstop.training.objectives.base import Loss, Objective, ObjectiveConfig
from ripstop.training.objectives.cross_entropy import cross_entropy

log = logging.getLogger(__name__)
EVERY = 50
"""Batches between two looks for a branch that has collapsed: on a GPU a look waits for the device."""


class TaughtSelectionConfig(ObjectiveConfig):
    """For models without sparse attention it is the cross-entropy."""

    kind: Literal["taught_selection"] = "taught_selection"
    collapsed: float = Field(0.02, gt=0, lt=0.5, description="a mean gate below it, or above 1 minus it, has collapsed")

    def build(self) -> Objective:
        return TaughtSelection(self.collapsed)


class TaughtSelection:
    """The metrics gate_<branch> are means over layers; gates_collapsed counts branches of all layers; teaching_loss is what was
    added to each target's loss, 0 where nothing teaches. In evaluation mode nothing is added: held-out losses of different ways
    of teaching compare.
    """

    def __init__(self, collapsed: float):
        self.collapsed = collapsed
        self._n_batches = 0
        self._told = False

    def __call__(self, model: Model, batch: TokenBatch) -> Loss:
        with tracing() as trace:
            loss = cross_entropy(model, batch)
        if not trace.layers:
            return loss
        gates_L3 = torch.stack([layer.gates for layer in trace.layers])
        collapsed_L3 = (gates_L3 < self.collapsed) | (gates_L3 > 1 - self.collapsed)
        self._tell(gates_L3, collapsed_L3)
        teaching = teaching_loss(trace, loss.sum)
        metrics = {
            **loss.metrics,
            **{f"gate_{branch}": gate for branch, gate in zip(BRANCHES, gates_L3.mean(0), strict=True)},
            "gates_collapsed": collapsed_L3.sum(),
            "teaching_loss": teaching.detach(),
        }
        return Loss(loss.sum + teaching * loss.n if model.training else loss.sum, loss.n, metrics)

    def _tell(self, gates_L3: Tensor, collapsed_L3: Tensor) -> None:
        """Warn, once, of the first branches that are found collapsed."""
        self._n_batches += 1
        if self._told or self._n_batches % EVERY:
            return
        for layer, branch in collapsed_L3.nonzero().tolist():
            self._told = True
            gate = f"the mean gate of its {BRANCHES[branch]} branch is {gates_L3[layer, branch]:.3g}"
            log.warning(
                f"sparse attention {layer}: {gate}, which has collapsed; `gates_collapsed` in metrics.jsonl counts them"
            )


def teaching_loss(trace: Trace, like: Tensor) -> Tensor:
    """Sum of what the layers are taught by, a scalar; 0 where that is nothing. like: a scalar of the wanted type and device."""
    losses = [layer.teaching_loss for layer in trace.layers if layer.teaching_loss is not None]
    return torch.stack(losses).sum().to(like.dtype) if losses else torch.zeros_like(like)
