"""A run: one point of a study's grid, resolved to everything that training and evaluation need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from ripstop import yaml_file
from ripstop.config import Strict
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.models import MODELS
from ripstop.models.base import ModelConfig
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.reporting import Reporting

Scalar = str | int | float | bool


class Run(Strict):
    """`name` is made of the factors (`mixer-mamba2_d_state-64_seed-0`) and names the folder.

    `evaluation` is the study's own mapping; it and `reporting` lie in files of their own, so that changing them retrains
    nothing.
    """

    study: str
    scale: str
    name: str
    seed: int
    factors: dict[str, Scalar]
    data: Annotated[DataConfig, DATA]
    model: Annotated[ModelConfig, MODELS]
    training: TrainingConfig
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    evaluation: dict[str, Any] = {}

    def files(self) -> dict[str, str]:
        """File name -> text: `config.yaml` (training's input), `evaluation.yaml` (evaluation's) and `reporting.yaml`
        (nobody's: it moves no number, so nothing is stale when it changes).
        """
        config = self.model_dump(mode="json")
        files = {f"{part}.yaml": config.pop(part) for part in ("evaluation", "reporting")}
        return {name: yaml_file.dump(values) for name, values in ({"config.yaml": config} | files).items()}

    @classmethod
    def load(cls, folder: Path, overrides: Sequence[str] = ()) -> Run:
        """The run whose files lie in `folder`, each override (`training.steps=10`) laid over them."""
        hint = "run the workflow's plan, or `python -m ripstop plan`, first"
        values = yaml_file.mapping(folder / "config.yaml", hint)
        values["evaluation"] = yaml_file.mapping(folder / "evaluation.yaml", hint)
        if (folder / "reporting.yaml").exists():  # not where an earlier version made the run: the defaults do
            values["reporting"] = yaml_file.mapping(folder / "reporting.yaml")
        where = str(folder / "config.yaml")
        return cls.parse(yaml_file.override(values, overrides, where), where)


def run_name(factors: Mapping[str, Scalar], seed: int) -> str:
    """Folder name of a run. Holds no `=` or `,`, which a Slurm job could not read back."""
    parts = [*factors.items(), ("seed", seed)]
    name = "_".join(f"{key}-{value}" for key, value in parts)
    return "".join(c if c.isalnum() or c in "-_.+" else "~" for c in name)
