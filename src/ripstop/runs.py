"""A run: one point of a study's grid, resolved to everything that training and evaluation need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from omegaconf import OmegaConf

from ripstop.config import ConfigError, Strict
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.models import MODELS
from ripstop.models.base import ModelConfig
from ripstop.training.config import TrainingConfig

Scalar = str | int | float | bool


class Run(Strict):
    """`name` is made of the factors (`mixer-mamba2_d_state-64_seed-0`) and names the folder.

    `evaluation` is the study's own mapping; it lies in a file of its own, so that changing it retrains nothing.
    """

    study: str
    scale: str
    name: str
    seed: int
    factors: dict[str, Scalar]
    data: Annotated[DataConfig, DATA]
    model: Annotated[ModelConfig, MODELS]
    training: TrainingConfig
    evaluation: dict[str, Any] = {}

    def files(self) -> dict[str, str]:
        """File name -> text: `config.yaml` (training's input) and `evaluation.yaml` (evaluation's)."""
        config = self.model_dump(mode="json")
        evaluation = config.pop("evaluation")
        return {
            name: yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
            for name, values in (("config.yaml", config), ("evaluation.yaml", evaluation))
        }

    @classmethod
    def load(cls, folder: Path, overrides: Sequence[str] = ()) -> Run:
        """The run whose files lie in `folder`, each override (`training.steps=10`) laid over them."""
        values: dict[str, Any] = {}
        for name in ("config.yaml", "evaluation.yaml"):
            path = folder / name
            if not path.is_file():
                raise ConfigError(f"{path}: no such file; run the workflow's plan, or `python -m ripstop plan`, first")
            loaded = yaml.safe_load(path.read_text()) or {}
            values |= loaded if name == "config.yaml" else {"evaluation": loaded}
        for override in overrides:
            if "=" not in override:
                raise ConfigError(f"--set {override}: write it as key=value, such as training.steps=10")
        merged = OmegaConf.merge(OmegaConf.create(values), OmegaConf.from_dotlist(list(overrides)))
        return cls.parse(OmegaConf.to_container(merged), str(folder / "config.yaml"))


def run_name(factors: Mapping[str, Scalar], seed: int) -> str:
    """Folder name of a run. Holds no `=` or `,`, which a Slurm job could not read back."""
    parts = [*factors.items(), ("seed", seed)]
    name = "_".join(f"{key}-{value}" for key, value in parts)
    return "".join(c if c.isalnum() or c in "-_.+" else "~" for c in name)
