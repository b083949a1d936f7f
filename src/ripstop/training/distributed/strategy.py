"""How a model lies on the processes that train it: whole in the only one, whole in each (DDP), or in parts (FSDP2).

DDP and FSDP2 act where a module is called. What they wrap is therefore not the model but the objective's call with it: an
objective uses the model itself, whatever it calls of it, and names of parameters stay.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ripstop.batch import Batch
from ripstop.config import ConfigError
from ripstop.models.base import Model
from ripstop.training.config import TrainingConfig
from ripstop.training.distributed.config import Parallel
from ripstop.training.distributed.parts import in_parts, is_in_parts, whole
from ripstop.training.distributed.ranks import Ranks
from ripstop.training.fp8 import in_use
from ripstop.training.objectives.base import Loss, Objective

Layout = Callable[[tuple[str, ...], torch.Size], Tensor | None]
"""From the place of a tensor in a trainer's state, and its shape, to the tensor that it is laid out like; None: it is whole."""


class Whole:
    """The model of the only process, and what the others change of it.

    Gradients of several processes are a mean over these.
    """

    in_parts = False
    """Whether no process holds the whole model."""

    def __init__(self, model: Model, objective: Objective):
        self.model = model
        self.objective = objective

    def loss(self, batch: Batch) -> Loss:
        """The objective's, with a gradient where one is asked for."""
        return self.objective(self.model, batch)

    def held_out(self, batch: Batch) -> Loss:
        """The objective's where nothing is trained. Every process calls it as often as the others."""
        return self.objective(self.model, batch)

    def gradients(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of a micro-batch. last: of its update, after which gradients are those of all ranks."""
        return nullcontext()

    def clip(self, largest: float) -> Tensor:
        """Scale the gradient where its norm is larger, and return the norm, of the whole gradient, the same on each rank."""
        return nn.utils.clip_grad_norm_(self.model.parameters(), largest)

    def layout(self, optimizer: torch.optim.Optimizer) -> Layout | None:
        """How a state's tensors lie; None: all are whole."""
        return None

    def lay_out(self, state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
        """A trainer's state of whole tensors, or of tensors laid out, as this process holds it."""
        return state

    def whole_state(self) -> dict[str, Tensor]:
        """The trained state, whole; where it has to be put together on the CPU of the first rank, and empty on the others."""
        return self.model.trained_state()


class Replicated(Whole):
    """DistributedDataParallel: gradients are averaged while the last backward pass of an update is under way."""

    def __init__(self, model: Model, objective: Objective, unused_parameters: bool):
        super().__init__(model, objective)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the argument's new name, which torch 2.6 does not know
            self._call = nn.parallel.DistributedDataParallel(
                _Call(model, objective), find_unused_parameters=unused_parameters, broadcast_buffers=False
            )

    def loss(self, batch: Batch) -> Loss:
        try:
            return self._call(batch)
        except RuntimeError as error:
            if "Expected to have finished reduction" not in str(error):
                raise
            raise ConfigError(
                "parallel.unused_parameters: the last update left parameters out, which ddp waits for; set it to true"
            ) from error

    def gradients(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self._call.no_sync()


class Sharded(Whole):
    """FSDP2: a process keeps a part of the rows of every parameter, and gathers those of a block while that is computed.

    Gradients are reduced to the parts after every micro-batch: kept whole until the last one they would take the memory that
    sharding saves. Every rank has to use the same parameters. Frozen ones stay whole.
    """

    in_parts = True

    def __init__(self, model: Model, objective: Objective, ranks: Ranks, device: torch.device):
        super().__init__(model, objective)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._ranks = ranks
        mesh = init_device_mesh(device.type, (ranks.n_ranks,))
        frozen = {p for p in model.parameters() if not p.requires_grad}
        for block in model.blocks():
            fully_shard(block, mesh=mesh, ignored_params=frozen)
        self._call: Any = fully_shard(_Call(model, objective), mesh=mesh, ignored_params=frozen)

    def loss(self, batch: Batch) -> Loss:
        return self._call(batch)

    def held_out(self, batch: Batch) -> Loss:
        return self._call(batch)

    def clip(self, largest: float) -> Tensor:
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))  # of the parts of all ranks
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)
        return norm

    def layout(self, optimizer: torch.optim.Optimizer) -> Layout:
        named = self.model.trained_state()
        ordered = [p for group in optimizer.param_groups for p in group["params"]]

        def like(place: tuple[str, ...], shape: torch.Size) -> Tensor | None:
            match place:
                case ("model", name) | ("best", "state", name):
                    found = named.get(name)
                case ("before", number):
                    found = list(named.values())[int(number)]
                case ("optimizer", "state", number, _):
                    found = ordered[int(number)]
                case _:
                    found = None
            return found if found is not None and found.shape == shape and is_in_parts(found) else None

        return like

    def lay_out(self, state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
        like = self.layout(optimizer)
        return {key: self._laid_out(value, (str(key),), like) for key, value in state.items()}

    def _laid_out(self, value: Any, place: tuple[str, ...], like: Layout) -> Any:
        if isinstance(value, dict):
            return {key: self._laid_out(item, (*place, str(key)), like) for key, item in value.items()}
        if isinstance(value, list) and place == ("before",):
            return [self._laid_out(item, (*place, str(number)), like) for number, item in enumerate(value)]
        return in_parts(value, like(place, value.shape)) if isinstance(value, Tensor) else value

    def whole_state(self) -> dict[str, Tensor]:
        state = {}
        for name, tensor in self.model.trained_state().items():
            all_of_it = whole(tensor)
            if self._ranks.first:
                state[name] = all_of_it.cpu()
        return state


class _Call(nn.Module):
    """The objective's call with the model."""

    def __init__(self, model: Model, objective: Objective):
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Loss:
        return self.objective(self.model, batch)


def lay(
    model: Model, objective: Objective, config: TrainingConfig, parallel: Parallel, ranks: Ranks, device: torch.device
) -> Whole:
    """Lay `model`, whose blocks are ready, on the processes. `ConfigError` where its training cannot be shared that way."""
    if ranks.alone:
        return Whole(model, objective)
    if parallel.strategy == "fsdp":
        _check_sharded(config, device)
    _begin_alike([*model.parameters(), *model.buffers()])
    if parallel.strategy == "fsdp":
        return Sharded(model, objective, ranks, device)
    return Replicated(model, objective, parallel.unused_parameters)


def _check_sharded(config: TrainingConfig, device: torch.device) -> None:
    if config.optimizer.kind == "adamw_low_bit":
        raise ConfigError(
            "parallel.strategy: fsdp cannot share the moments of training.optimizer.kind adamw_low_bit, whose blocks of "
            "numbers would differ by the number of processes; set strategy to 'ddp', or kind to 'adamw'"
        )
    if in_use(config.precision, device) == "fp8":
        raise ConfigError(
            "parallel.strategy: fsdp is not measured with training.precision fp8; set strategy to 'ddp', or precision to 'bf16'"
        )


def _begin_alike(tensors: Iterable[Tensor]) -> None:
    """The first rank's values on all: processors of two kinds may draw other ones from one seed."""
    with torch.no_grad():
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), 0)


def shares(counts_by_rank: list[list[float]], rank: int) -> list[float]:
    """By how much the mean over ranks has to weigh what this rank measured in each micro-batch, so that a mean over targets
    results: n_ranks times its part of the targets. Without a target anywhere all weigh the same.

    counts_by_rank: targets of each rank's micro-batches.
    """
    totals = [math.fsum(counts) for counts in zip(*counts_by_rank, strict=True)]
    n_ranks = len(counts_by_rank)
    return [count * n_ranks / total if total else 1.0 for count, total in zip(counts_by_rank[rank], totals, strict=True)]
