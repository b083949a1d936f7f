"""How several processes share a training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ripstop.config import Strict

MOVES_NO_NUMBER = "says how processes share a training, whose numbers are those of one process but for rounding"


class Parallel(Strict):
    """How the processes of a training share it; how many there are says whoever starts them (`torchrun`).

    ddp: every process holds the whole model. fsdp: each holds a part of every parameter, of its gradient and moments.
    None of it enters an identity: a training resumes with another strategy, and with another number of processes.
    """

    strategy: Literal["ddp", "fsdp"] = "ddp"
    unused_parameters: bool = Field(
        False, description="of ddp: a step may leave parameters out, as where a branch drops out; takes a look at every graph"
    )
    timeout: int = Field(600, ge=10, le=10**6, description="seconds after which a process that waits for another gives up")
