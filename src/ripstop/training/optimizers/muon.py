"""Muon for the matrices of a model, AdamW for everything else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ripstop.ops.orthogonalize import POLAR_EXPRESS, QUINTIC, newton_schulz
from ripstop.training.distributed.parts import in_parts, whole
from ripstop.training.optimizers.adamw import AdamW, Beta, parameter_groups
from ripstop.training.optimizers.base import OptimizerConfig
from ripstop.training.optimizers.projections import projections


class MuonConfig(OptimizerConfig):
    """Muon (K. Jordan et al. 2024, kellerjordan.github.io/posts/muon; at scale: arXiv 2502.16982).

    Its matrices are the weights of linear layers, without embedding and head (`projections`). Parameters with two axes or
    more decay, in either part, but for the embedding.
    """

    kind: Literal["muon"] = "muon"
    momentum: Beta = 0.95
    nesterov: bool = True
    weight_decay: float = Field(0.1, ge=0)
    iteration: Literal["polar_express", "quintic"] = Field(
        "polar_express", description="polynomials of the orthogonalisation; quintic: those that Muon was published with"
    )
    adjust_lr: Literal["match_rms_adamw", "original"] = Field(
        "match_rms_adamw",
        description="steps as large as AdamW's, so that its lr does for both (arXiv 2502.16982, Eq. 4); original: "
        "lr * sqrt(max(1, rows / columns)), which wants an lr some 20 times larger",
    )
    split: bool = Field(True, description="every head, gate or other projection stacked in a weight is a matrix of its own")
    adamw_lr_scale: float = Field(1.0, gt=0, description="the learning rate of AdamW, as a part of lr")
    adamw_betas: tuple[Beta, Beta] = (0.9, 0.98)

    def build(self, model: nn.Module) -> Muon:
        rows = projections(model)
        matrices = {
            "params": list(rows), "weight_decay": self.weight_decay, "muon": True, "momentum": self.momentum,
            "nesterov": self.nesterov, "iteration": self.iteration, "adjust_lr": self.adjust_lr,
        }  # fmt: skip
        rest = [
            group | {"params": [p for p in group["params"] if p not in rows], "lr_scale": self.adamw_lr_scale, "muon": False}
            for group in parameter_groups(model, self.weight_decay)
        ]
        groups = [group for group in [matrices, *rest] if group["params"]]
        return Muon(groups, rows if self.split else {}, betas=self.adamw_betas)


class Muon(AdamW):
    """AdamW of the groups with `muon: False`; a group with `muon: True` holds matrices alone, and their momentum."""

    def __init__(
        self, groups: list[dict[str, Any]], rows: Mapping[Tensor, Sequence[int]], *, betas: tuple[float, float] = (0.9, 0.98),
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        """rows: those of each matrix that is stacked in a parameter; one that is not there is one matrix.
        dtype: of the products; None: bfloat16 on a GPU, float32 on a CPU, which is slower at less than that.
        """
        super().__init__(groups, lr=0.0, betas=betas, fused=True)
        self.rows, self.dtype = rows, dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """closure: None; it is torch's."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._step_matrices(group)

    def _step_matrices(self, group: Mapping[str, Any]) -> None:
        """B <- momentum B + (1 - momentum) G; every matrix decays, then steps along what its own part of B is made to."""
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        gradients = [p.grad for p in parameters]
        for p in parameters:
            if not self.state[p]:
                # step: torch's AdamW expects one in every state that it loads
                self.state[p].update(step=torch.zeros((), device=p.device), momentum_buffer=torch.zeros_like(p))
        torch._foreach_add_([self.state[p]["step"] for p in parameters], 1)
        momenta = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"]) if group["nesterov"] else momenta
        updates = self._orthogonalized(parameters, directions, group)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _orthogonalized(self, parameters: list[Tensor], directions: Sequence[Tensor], group: Mapping[str, Any]) -> list[Tensor]:
        """Of each direction the matrices stacked in it, orthogonal and scaled. Those of one shape are computed together."""
        polynomials = POLAR_EXPRESS if group["iteration"] == "polar_express" else QUINTIC
        directions = [whole(direction) for direction in directions]  # of one in parts: each process has to see all of a matrix
        updates = [torch.empty_like(direction) for direction in directions]
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, direction, update in zip(parameters, directions, updates, strict=True):
            rows = list(self.rows.get(parameter, direction.shape[:1]))
            for source, target in zip(direction.split(rows), update.split(rows), strict=True):
                alike[source.shape[0], source.shape[1]].append((source, target))
        for shape, pairs in alike.items():
            sources = torch.stack([source for source, _ in pairs])
            dtype = self.dtype or (torch.bfloat16 if sources.is_cuda else torch.promote_types(sources.dtype, torch.float32))
            orthogonal = newton_schulz(sources, polynomials, dtype) * adjustment(shape, group["adjust_lr"])
            for (_, target), matrix in zip(pairs, orthogonal, strict=True):
                target.copy_(matrix)
        return [in_parts(update, parameter) for update, parameter in zip(updates, parameters, strict=True)]


def adjustment(shape: tuple[int, int], rule: str) -> float:
    """What the learning rate of an orthogonal step is multiplied by, for a matrix of this shape.

    match_rms_adamw: the step's root mean square becomes 0.2, about that of AdamW's (arXiv 2502.16982, Eq. 4).
    original: as in Muon's first code; the steps of wide matrices are orthogonal, those of tall ones longer.
    """
    rows, columns = shape
    return 0.2 * max(rows, columns) ** 0.5 if rule == "match_rms_adamw" else max(1.0, rows / columns) ** 0.5
