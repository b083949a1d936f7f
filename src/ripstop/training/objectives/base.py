"""What every objective offers: the sum of a loss over a batch, how many things it is over, and what else it measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ripstop.config import Strict


class Loss(NamedTuple):
    """sum: scalar with a gradient, the loss summed over the batch's targets; at least float32.
    n: how many targets that are, the batch's own `n_targets`.
    metrics: name -> scalar, a mean over the batch; they are reported beside the loss and train nothing.
    """

    sum: Tensor
    n: int
    metrics: Mapping[str, Tensor] = {}


Objective = Callable[[Any, Any], Loss]
"""objective(model, batch). Which model and batch an objective can read is between it and the run that names all three."""


class ObjectiveConfig(Strict):
    """An objective. Subclasses add `kind: Literal[...]`, settings, and `build`."""

    kind: str

    def build(self) -> Objective:
        """The objective, called with the model and a batch that lie on one device."""
        raise NotImplementedError(f"{type(self).__name__} must define build()")
