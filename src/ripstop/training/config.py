"""What a training run is told: steps, optimizer, schedule, precision and how often it saves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ripstop.batch import StreamPlan
from ripstop.config import Strict


class TrainingError(RuntimeError):
    """A training that cannot go on: a loss that is not finite, a full disk. One sentence that says what to do."""


class TrainingConfig(Strict):
    """Settings of the trainer. Fractions are of `steps`; `tokens_per_step` counts what the model reads in one update."""

    steps: int = Field(ge=1)
    tokens_per_step: int = Field(ge=1)
    accumulation: int = Field(1, ge=1, description="micro-batches an update; each has tokens_per_step / accumulation tokens")
    lr: float = Field(gt=0)
    min_lr_ratio: float = Field(0.02, ge=0, le=1, description="last learning rate of the cosine, as a part of lr")
    warmup: float = Field(0.1, ge=0, le=1)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: no clipping")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    activation_checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1, description="CPU threads of the run")
    log_every: int = Field(50, ge=1, description="steps between two heartbeats")
    checkpoint_every: int = Field(200, ge=1, description="steps between two checkpoints")
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: bool = False

    def stream_plan(self, seed: int) -> StreamPlan:
        """What this training asks of its data."""
        return StreamPlan(self.steps, self.tokens_per_step, self.accumulation, seed)
