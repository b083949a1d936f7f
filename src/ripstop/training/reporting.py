"""What a training says and keeps on its way."""

from __future__ import annotations

from pydantic import Field

from ripstop.config import Strict

MOVES_NO_NUMBER = "says how often a training reports and saves"


class Reporting(Strict):
    """What a training says and keeps on its way. None of it moves a number, so none of it enters an identity."""

    log_every: int = Field(50, ge=1, description="steps between two heartbeats")
    checkpoint_every: int = Field(200, ge=1, description="steps between two checkpoints")
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False
    stall_seconds: float = Field(
        600, ge=0, le=10**6, description="without a step for so long, the stacks of all threads are written down; 0: never"
    )
