"""AdamW with weight decay on matrices only."""

from __future__ import annotations

import inspect
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from ripstop.training.optimizers.base import OptimizerConfig

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamwConfig(OptimizerConfig):
    """AdamW (arXiv 1711.05101), eps 1e-8."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    weight_decay: float = Field(0.01, ge=0)

    def build(self, model: nn.Module) -> AdamW:
        # lr is the trainer's to set; 0 so that an update whose rate nobody set moves nothing.
        # fused: one pass over each parameter, 3 to 5 times faster than the loop on a CPU too
        return AdamW(parameter_groups(model, self.weight_decay), lr=0.0, betas=self.betas, fused=True)


class AdamW(torch.optim.AdamW):
    """torch's, which is not compiled here: its methods without the wrappers that keep a compiler out of them, and import the
    whole compiler to do so, seconds of every job on a CPU."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


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
