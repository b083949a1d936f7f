"""The processes of a training: which one this is, and what they tell each other."""

from __future__ import annotations

import logging
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from ripstop.config import ConfigError, TrainingError
from ripstop.training.distributed.telling import OtherRankError, several, tell

T = TypeVar("T")

LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|timed out|broken pipe", re.I)
"""In what torch says where the process that another one waits for is gone."""
LATER = 1.0
"""Seconds after which a process ends because another one has: torchrun, which looks more often, then reports that one."""


@dataclass(frozen=True)
class Ranks:
    """One process, number `rank`, of the `n_ranks` that train together; by default it is alone.

    Where there are more, each method is called by all of them, in the same order.
    """

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0
    """Its number among those of this machine."""

    @property
    def alone(self) -> bool:
        return self.n_ranks == 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and reports."""
        return self.rank == 0

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The `values` of every rank, in their order; as many on each."""
        if self.alone:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64)  # on the CPU: no device waits for it
        found = [torch.empty_like(mine) for _ in range(self.n_ranks)]
        torch.distributed.all_gather(found, mine)
        return [row.tolist() for row in found]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, the same bits on each; `values` itself is changed where there are several."""
        if not self.alone:
            torch.distributed.all_reduce(values)
        return values

    def each(self, work: Callable[[], T]) -> list[T]:
        """What `work` returns on every rank; where it raises on one, every rank raises.

        That rank its own error, the others `OtherRankError`: none waits for what never comes.
        """
        if self.alone:
            return [work()]
        made, error = None, None
        try:
            made = work()
        except Exception as raised:
            error = raised
        found: list[Any] = [None] * self.n_ranks
        torch.distributed.all_gather_object(found, (made, error is not None))
        if error is not None:
            raise error
        failed = [str(rank) for rank, (_, fails) in enumerate(found) if fails]
        if failed:
            raise OtherRankError(f"rank {', '.join(failed)} of this training has failed, and says why")
        return [value for value, _ in found]

    def once(self, work: Callable[[], T]) -> T:
        """What `work` returns on the first rank, which alone does it; raises as `each` does."""
        return self.each(lambda: work() if self.first else None)[0]  # type: ignore[return-value]


ALONE = Ranks()


@contextmanager
def joined(device: str, timeout: int) -> Iterator[Ranks]:
    """The processes that were started together, as `torchrun` does, connected while entered; `ALONE` where none were.

    device: "cpu" or "cuda", on which each process gets the GPU of its number on its machine. timeout: seconds.
    All but the first are silent. `ConfigError` where there are fewer GPUs than processes; `OtherRankError` where another
    process is lost, which ends this one too.
    """
    if not several():
        yield ALONE
        return
    ranks = Ranks(_number("RANK"), _number("WORLD_SIZE"), _number("LOCAL_RANK"))
    # Not closed where this one fails: others would notice before it has said why.
    with _silent() if not ranks.first else nullcontext():
        try:
            connect(ranks, device, timeout)
            yield ranks
        except RuntimeError as error:
            if isinstance(error, TrainingError) or not _is_loss(error):
                raise
            reason = textwrap.shorten(str(error), 160, placeholder=" ...")
            tell(
                f"error: rank {ranks.rank}: another process of this training has ended, or did not answer within {timeout} s "
                f"(parallel.timeout): {reason}; torchrun names the one that failed, and the same command resumes",
                reports=False,
            )
            time.sleep(LATER)
            raise OtherRankError("another process of this training has ended") from error
        except SystemExit:
            torch.distributed.destroy_process_group()
            raise
        torch.distributed.destroy_process_group()


def connect(ranks: Ranks, device: str, timeout: int) -> None:
    """Connect the processes: by gloo what lies on the CPU, by nccl what lies on GPUs."""
    if device == "cpu":
        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=timeout))
        return
    found = torch.cuda.device_count()
    if ranks.local_rank >= found:
        raise ConfigError(
            f"compute.device: local rank {ranks.local_rank} has no GPU, this machine has {found}; "
            f"start {found or 'no'} processes on it (--nproc_per_node)"
        )
    own = torch.device("cuda", ranks.local_rank)
    torch.cuda.set_device(own)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=timedelta(seconds=timeout), device_id=own)


def _is_loss(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or LOST.search(str(error)) is not None


def _number(name: str) -> int:
    value = os.environ.get(name, "0" if name == "LOCAL_RANK" else "")
    if not value.isdecimal():
        raise ConfigError(f"{name}: the environment says {value!r}, and not which process this is; start it with torchrun")
    return int(value)


@contextmanager
def _silent() -> Iterator[None]:
    """What every process finds is said by one of them."""
    sys.stdout.flush()
    log = logging.getLogger("ripstop")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing):
            yield
    finally:
        log.setLevel(level)
