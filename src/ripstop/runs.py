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
from ripstop.training.config import Compute, Reporting, TrainingConfig

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
        return {
            name: yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
            for name, values in ({"config.yaml": config} | files).items()
        }

    @classmethod
    def load(cls, folder: Path, overrides: Sequence[str] = ()) -> Run:
        """The run whose files lie in `folder`, each override (`training.steps=10`) laid over them."""
        values: dict[str, Any] = {}
        for name in ("config.yaml", "evaluation.yaml", "reporting.yaml"):
            path = folder / name
            if name == "reporting.yaml" and not path.exists():
                continue  # made by an earlier version: the defaults do
            if not path.is_file():
                raise ConfigError(f"{path}: no such file; run the workflow's plan, or `python -m ripstop plan`, first")
            loaded = yaml.safe_load(path.read_text()) or {}
            values |= loaded if name == "config.yaml" else {path.stem: loaded}
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
