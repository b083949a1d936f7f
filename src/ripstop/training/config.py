"""What a training run is told: what moves numbers (TrainingConfig), and where it computes (Compute)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ripstop.batch import StreamPlan
from ripstop.config import Strict
from ripstop.training.objectives import OBJECTIVES
from ripstop.training.objectives.base import ObjectiveConfig
from ripstop.training.optimizers import OPTIMIZERS
from ripstop.training.optimizers.base import OptimizerConfig

MOST_TOKENS = 2**26
"""Of an update: four times the largest that a published language model was trained with (16 million, Llama 3)."""
MOST_TOKENS_AT_ONCE = 2**22
"""Of one batch: ten times that of the full scale; more can only be a slip of the finger, and would compute for hours."""


class TrainingConfig(Strict):
    """Settings of the trainer. Fractions are of `steps`; `tokens_per_step` counts what the model reads in one update."""

    steps: int = Field(ge=1, le=10**9)
    tokens_per_step: int = Field(ge=1, le=MOST_TOKENS)
    accumulation: int = Field(1, ge=1, le=10**6, description="micro-batches an update; each has tokens_per_step / accumulation")
    lr: float = Field(gt=0, allow_inf_nan=False)
    min_lr_ratio: float = Field(0.02, ge=0, le=1, description="last learning rate of the cosine, as a part of lr")
    warmup: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, ge=0, allow_inf_nan=False, description="largest gradient norm; 0: no clipping")
    objective: Annotated[ObjectiveConfig, OBJECTIVES] = Field(default={"kind": "cross_entropy"}, validate_default=True)
    optimizer: Annotated[OptimizerConfig, OPTIMIZERS] = Field(default={"kind": "adamw"}, validate_default=True)
    validate_every: int = Field(0, ge=0, description="steps between two measurements of the held-out loss; 0: never")
    keep: Literal["last", "best"] = Field("last", description="the model kept: the last one, or the best by held-out loss")
    on_divergence: Literal["fail", "record"] = Field(
        "fail", description="a loss that is not finite stops the workflow, or is the outcome of this training"
    )
    precision: Literal["fp32", "bf16", "fp8", "fp8_or_bf16"] = Field(
        "fp32", description="of matrix products; fp8 is refused where the GPU has none, fp8_or_bf16 takes bf16 there"
    )
    compile: bool = False
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _batches_fit(self) -> Self:
        tokens = self.tokens_per_step // self.accumulation
        if tokens > MOST_TOKENS_AT_ONCE:
            raise ValueError(
                f"tokens_per_step asks for batches of {tokens} tokens, and at most {MOST_TOKENS_AT_ONCE} are read at once; "
                "lower it, or raise accumulation, which reads as many in more batches"
            )
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> Self:
        if self.keep == "best" and not self.validate_every:
            raise ValueError("keep: best needs validate_every above 0, since the best is told by the held-out loss")
        return self

    def stream_plan(self, seed: int) -> StreamPlan:
        """What this training asks of its data."""
        return StreamPlan(self.steps, self.tokens_per_step, self.accumulation, seed)


class Compute(Strict):
    """Where a run computes. It belongs to the run's identity: other threads or devices add in another order."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(1, ge=1, description="CPU threads of the run")
