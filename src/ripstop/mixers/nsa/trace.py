"""Looking into natively sparse attention while it runs, and intervening: which blocks, which gates, what was taught.

One watcher at a time, in one thread: a training that wants the losses of its teaching, an evaluation that counts what was
selected, a control that takes something away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

Branch = Literal["compressed", "selected", "window"]
BRANCHES: tuple[Branch, ...] = get_args(Branch)
Select = Literal["scores", "random", "oracle"]


@dataclass(frozen=True)
class Layer:
    """What one mixer did in one forward, prefill or step. ids_BTGn: the blocks each token selected, -1 where there are no more.
    gates: the mean of each branch's gate, (3,). teaching_loss: to be added to the objective; None where nothing is taught."""

    ids_BTGn: Tensor
    gates: Tensor
    teaching_loss: Tensor | None


@dataclass
class Trace:
    """One entry for each natively sparse mixer that ran, in order."""

    layers: list[Layer] = field(default_factory=list)


@dataclass(frozen=True)
class Intervention:
    """select: "scores" as ever; "random", forced blocks apart; "oracle", with `blocks_BM` in the place of those scored lowest.
    drop: branches whose output is taken away."""

    select: Select = "scores"
    drop: tuple[Branch, ...] = ()
    blocks_BM: Tensor | None = None


_trace: Trace | None = None
_intervention: Intervention | None = None
_generator: torch.Generator | None = None


@contextmanager
def tracing() -> Iterator[Trace]:
    """What every natively sparse mixer does within."""
    global _trace
    former, _trace = _trace, Trace()
    try:
        yield _trace
    finally:
        _trace = former


@contextmanager
def intervening(
    select: Select = "scores", seed: int = 0, drop: tuple[Branch, ...] = (), blocks_BM: Tensor | None = None
) -> Iterator[None]:
    """Within, free blocks are drawn at random (a function of `seed`) or come from an oracle (`blocks_BM`, numbers of blocks for
    each row, -1 for none), or branches are silent. As many blocks are read as ever."""
    global _intervention, _generator
    if not set(drop) <= set(BRANCHES) or select not in get_args(Select):
        raise ValueError(f"select is {select!r} and drop {drop}; there is: {get_args(Select)}, {BRANCHES}")
    if (select == "oracle") != (blocks_BM is not None):
        raise ValueError("blocks_BM goes with select='oracle', which needs it")
    former = _intervention, _generator
    _intervention, _generator = Intervention(select, drop, blocks_BM), torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _intervention, _generator = former


def intervention() -> Intervention | None:
    """The one in force."""
    return _intervention


def random_importance(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """What a random selection goes by. One stream for all layers, so that they select apart."""
    return torch.rand(shape, generator=_generator).to(device)


def note(ids_BTGn: Tensor, gates_BTH3: Tensor, teaching_loss: Tensor | None) -> None:
    """Into the trace, where there is one."""
    if _trace is not None:
        _trace.layers.append(Layer(ids_BTGn, gates_BTH3.detach().float().mean((0, 1, 2)), teaching_loss))
