"""The loss on held-out batches, measured without leaving a trace in the training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ripstop.batch import Batch
from ripstop.config import ConfigError
from ripstop.training.distributed.ranks import ALONE, Ranks
from ripstop.training.objectives.base import Objective
from ripstop.training.precision import autocast
from ripstop.training.randomness import random_state, restore_random_state


class HeldOut(NamedTuple):
    """loss: mean over all `n` targets. metrics: of the objective, each a mean over batches weighted by their targets."""

    loss: float
    metrics: dict[str, float]
    n: int


def held_out_loss(
    model: nn.Module, objective: Objective, batches: Iterable[Batch], device: torch.device, precision: str, ranks: Ranks = ALONE
) -> HeldOut:
    """The loss of `model` over all of `batches`, which `ranks` share: each gets the same ones, and reads its part.

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
            for batch, counts in _rounds(batches, ranks):
                with autocast(device, precision):
                    loss = objective(model, batch.to(device))
                for name in loss.metrics:
                    weighted.setdefault(name, [])
                if loss.n and counts:
                    sums.append(loss.sum)
                    n += loss.n
                    for name, value in loss.metrics.items():
                        weighted[name].append(value * loss.n)
    finally:
        for module, training in modes:
            module.training = training
        restore_random_state(randomness)
    totals = [_total(sums), *(_total(weighted[name]) for name in sorted(weighted))]
    if not ranks.alone:
        totals, n = _over(ranks, totals, n)
    if not n:
        raise ConfigError("training.validate_every: the held-out batches have no target; correct the data, or set it to 0")
    metrics = {name: total / n for name, total in zip(sorted(weighted), totals[1:], strict=True)}
    return HeldOut(totals[0] / n, {name: metrics[name] for name in weighted}, n)


def _rounds(batches: Iterable[Batch], ranks: Ranks) -> Iterator[tuple[Batch, bool]]:
    """What this rank reads, and whether that counts: where the last round has no batch for it, it reads one that another rank
    counts, because the parts of a sharded model are gathered by all ranks or none."""
    rest = iter(batches)
    while together := list(islice(rest, ranks.n_ranks)):
        counts = ranks.rank < len(together)
        yield together[ranks.rank if counts else 0], counts


def _over(ranks: Ranks, totals: list[float], n: int) -> tuple[list[float], int]:
    """Sums over ranks."""
    rows = ranks.gather([n, *totals])
    return [sum(column) for column in zip(*rows, strict=True)][1:], round(sum(row[0] for row in rows))


def _total(values: list[Tensor]) -> float:
    return sum(torch.stack(values).tolist()) if values else 0.0
