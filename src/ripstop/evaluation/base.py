"""A part of an evaluation: its settings, what it measures on, and what it leaves behind.

Each part of each run is a job of its own, with a code digest of its own: a changed measure repeats that measure alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from ripstop.config import Strict
from ripstop.models.base import Model
from ripstop.models.weights import load_weights
from ripstop.records import Measurement

if TYPE_CHECKING:
    from ripstop.runs import Run


Group = Literal["quality", "context", "efficiency"]


@dataclass(frozen=True)
class Subject:
    """A run to be measured.

    folder: of the run; data: of its prepared data; out: of this part, where the files that it declares belong.
    """

    run: Run
    folder: Path
    data: Path
    out: Path
    device: torch.device

    def model(self, changes: Mapping[str, Any] | None = None) -> Model:
        """The trained model in evaluation mode on the device.

        changes: settings of the model to replace, for a measure of the same weights under another rule (a sink off,
        a quantised state). What it has to load must still fit: a changed shape is an error.
        """
        config = self.run.model.replace(**changes) if changes else self.run.model
        model = config.build(self.run.data.info(self.data))
        if self.run.training is not None:
            load_weights(model, self.folder / "model.safetensors")
        return model.to(self.device).eval()


class PartConfig(Strict):
    """Settings of one part. Subclasses add `kind: Literal[...]` and implement `measure`.

    exclusive: it runs alone on its machine, as a measure of time has to.
    """

    kind: str
    exclusive: bool = False

    environment: ClassVar[str] = "main"
    """The folder of `envs/` whose packages it needs; `main` is the one of everything else."""
    group: ClassVar[Group] = "quality"
    """What `evaluate --only` calls it with others: how good a model is, its use of context, or what it costs."""
    files: ClassVar[tuple[str, ...]] = ()
    """What it writes below `Subject.out` besides its records."""

    def check(self, run: Run) -> None:
        """`ConfigError` where this part cannot measure `run`. Called when the plan is made, before anything trains."""

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Every value; called under `torch.inference_mode`."""
        raise TypeError(f"{type(self).__name__}: a part has to define measure(self, subject)")
