"""A run: one point of a study's grid, resolved to everything that training and evaluation need."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from os.path import normpath
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ripstop import choices, yaml_file
from ripstop.config import ConfigError, Strict
from ripstop.data import DATA
from ripstop.data.base import DataConfig
from ripstop.evaluation import PARTS
from ripstop.evaluation.base import PartConfig
from ripstop.files import read_text
from ripstop.models import MODELS
from ripstop.models.base import ModelConfig
from ripstop.records import Scalar
from ripstop.training.config import Compute, TrainingConfig
from ripstop.training.distributed.config import Parallel
from ripstop.training.reporting import Reporting

PLANNED = "`python -m ripstop plan --write` writes the files of every run"
MOVES_NO_NUMBER = "the values of a run stand in its config.yaml, and the modules of its parts are named by it"


class Resources(Strict):
    """What the jobs of a run ask of their machine. Changing it makes nothing stale, but `environment` and `processes`: those
    change the command."""

    gpus: int | None = Field(
        None, ge=0, le=1024, description="of a training, on all its nodes; none given: one where compute.device is cuda"
    )
    gpu_model: str | None = Field(
        None, pattern=r"^[a-zA-Z0-9_.]+$", description="the type of those GPUs, as the cluster calls it; none given: any"
    )
    nodes: int = Field(1, ge=1, le=1024, description="machines of a training")
    processes: int | None = Field(
        None, ge=1, le=1024, description="that train together, on all nodes; none given: one for each GPU"
    )
    mem_mb: int = Field(3000, ge=100, le=10**8, description="of each node")
    runtime: int = Field(60, ge=1, le=10**6, description="minutes of a training")
    evaluation_runtime: int = Field(60, ge=1, le=10**6, description="minutes of each part of the evaluation")
    group: int = Field(
        1,
        ge=1,
        le=10**4,
        description="runs of the study that one job of a cluster does, one after another; not of several processes",
    )
    environment: Literal["main", "gpu"] = Field("main", description="the folder of envs/ that its training needs")


class Run(Strict):
    """`name` is made of the factors (`mixer-mamba2_d_state-64_seed-0`) and names the folder.

    training: None where there is nothing to train: a model as it is built, or one that comes trained.
    choice: name of the choice whose settings this run takes over; "" where it has its own.
    settings: of a candidate for that choice, what it tries: dotted key (`training.lr`) -> value.
    evaluation: part -> its settings. Each lies in a file of its own, so that changing it repeats that part alone.
    """

    study: str
    scale: str
    name: str = Field(pattern=r"^[^/=,\s]+$")
    seed: int = Field(ge=0, lt=2**63)
    factors: dict[str, Scalar]
    data: Annotated[DataConfig, DATA]
    model: Annotated[ModelConfig, MODELS]
    training: TrainingConfig | None
    compute: Compute = Compute()
    reporting: Reporting = Reporting()
    parallel: Parallel = Parallel()
    evaluation: dict[str, Annotated[PartConfig, PARTS]] = {}
    resources: Resources = Resources()
    choice: str = ""
    settings: dict[str, Scalar] = {}

    @property
    def n_gpus(self) -> int:
        if self.resources.gpus is not None:
            return self.resources.gpus
        return 1 if self.compute.device == "cuda" else 0

    @property
    def n_processes(self) -> int:
        """Those that train together."""
        return self.resources.processes or max(1, self.n_gpus)

    @property
    def work(self) -> int:
        """Rough FLOPs of its training: 6 for each parameter and token. Among jobs that are ready the longest start first."""
        if self.training is None:
            return 0
        return 6 * self.training.steps * self.training.tokens_per_step * self.model.num_params(1)

    def check(self) -> None:
        """`ConfigError` for what is fine alone and does not fit together. Nothing is read or built for it."""
        self._check_source()
        self._check_objective()
        self._check_resources()
        if self.training is not None:
            self.data.check(self.training.stream_plan(self.seed))
        for name, part in self.evaluation.items():
            try:
                part.check(self)
            except ConfigError as error:
                raise ConfigError(f"evaluation.{name}: {error}") from None

    def _check_source(self) -> None:
        has_source = self.data.longest_row.source is not None
        if self.model.reads_source and not has_source:
            raise ConfigError(
                f"data: has no source, and model {self.model.kind} reads one; give it data with a source, such as "
                "layout: seq2seq of mqar, or use kind: decoder_only"
            )
        if has_source and not self.model.takes_source:
            raise ConfigError(
                f"data: has a source, and model {self.model.kind} reads none; use kind: encoder_decoder, or data without one, "
                "such as layout: decoder of mqar"
            )

    def _check_objective(self) -> None:
        if self.training is None:
            return
        told, soft = self.training.objective, self.model.kind == "soft_prompt"
        if soft != (told.kind == "answers"):
            other = "answers" if soft else "cross_entropy"
            raise ConfigError(f"training.objective: {told.kind} trains no {self.model.kind}; use kind: {other}")
        if not soft:
            return
        from ripstop.models.soft_prompt import SoftPromptConfig
        from ripstop.training.objectives.answers import AnswersConfig

        assert isinstance(self.model, SoftPromptConfig) and isinstance(told, AnswersConfig)
        if self.model.adapter.output == "key_values" and (told.pretrain or told.reconstruction):
            raise ConfigError(
                "training.objective: reconstructs soft embeddings, and model.adapter.output is key_values; set its pretrain "
                "and reconstruction to 0"
            )

    def _check_resources(self) -> None:
        asked, n = self.resources, self.n_processes
        if self.n_gpus and n != self.n_gpus:
            raise ConfigError(
                f"resources.processes: {n} with {self.n_gpus} GPUs, and each process has one; leave it out, or correct gpus"
            )
        if asked.gpu_model and not self.n_gpus:
            raise ConfigError(
                f"resources.gpu_model: {asked.gpu_model}, and the run asks for no GPU; say how many in gpus, or leave it out"
            )
        if n % asked.nodes:
            raise ConfigError(
                f"resources.nodes: {n} processes do not go into {asked.nodes} nodes, as many on each; change nodes, or gpus "
                "(processes, on a CPU)"
            )

    def files(self) -> dict[str, str]:
        """File name -> text of what the stages of this run read.

        `config.yaml` enters the identity of what is trained; `reporting.yaml`, `<part>.yaml` and `parallel.yaml` do not. The
        last one is there only where it says something.
        """
        config = self.model_dump(mode="json", exclude={"reporting", "parallel", "evaluation", "resources"})
        parts = {f"{name}.yaml": part.model_dump(mode="json") for name, part in self.evaluation.items()}
        files = {"config.yaml": config, "reporting.yaml": self.reporting.model_dump(mode="json"), **parts}
        if self.parallel != Parallel():
            files["parallel.yaml"] = self.parallel.model_dump(mode="json")
        return {name: _dump(values) for name, values in files.items()}

    @classmethod
    def load(cls, folder: Path, overrides: Sequence[str] = (), parts: Sequence[str] = ()) -> Run:
        """The run whose files lie in `folder`, each override (`training.steps=10`) laid over them; with these `parts`.

        It has the settings that its arm chose. What is laid over is checked as a plan is.
        """
        values = yaml_file.parse(choices.resolved(folder, PLANNED), str(folder / "config.yaml"))
        values["reporting"] = _read(folder / "reporting.yaml", Reporting.parse)
        parallel = folder / "parallel.yaml"
        values["parallel"] = _read(parallel, Parallel.parse) if parallel.is_file() else {}
        values["evaluation"] = {part: _read(folder / f"{part}.yaml", PARTS.parse) for part in parts}
        for stage in ("train", *parts):
            _check_code(folder / f"{stage}.code")
        values = yaml_file.override(values, overrides, str(folder / "config.yaml"))
        run = cls.parse(values, str(folder / "config.yaml"))
        if overrides:
            run.check()
        return run

    def data_beside(self, folder: Path) -> Path:
        """Where the results that the run's folder lies in keep its prepared data."""
        return Path(normpath(folder.absolute() / "../../../data" / self.data.id))


def prepared_data(folder: Path, data: Path | None) -> Path:
    """The prepared folder that was named, or where the results that the run lies in keep it."""
    return Run.load(folder).data_beside(folder) if data is None else data


def _dump(values: dict[str, Any]) -> str:
    """`yaml_file.dump` of values with text keys. It is slow, and what runs share, such as their data, is written once."""
    return "".join(_entry(key, json.dumps(value)) for key, value in values.items()) or yaml_file.dump(values)


@functools.lru_cache(maxsize=1024)
def _entry(key: str, value: str) -> str:
    return yaml_file.dump({key: json.loads(value)})


def _read(path: Path, parse: Callable[[Any, str], Any]) -> dict[str, Any]:
    """The values of a file, which `parse` takes: what is wrong with them is told of this file."""
    values = yaml_file.mapping(path, PLANNED)
    parse(values, str(path))
    return values


def _check_code(path: Path) -> None:
    """`ConfigError` where the file is not one word in a line. It need not be there: not every stage reads it."""
    if path.is_file() and not re.fullmatch(r"\w+\n", read_text(path)):
        raise ConfigError(f"{path}: holds no digest of code, it was damaged or edited; {PLANNED}")


def run_name(factors: Mapping[str, Scalar], seed: int | None = None) -> str:
    """Folder name of a run. Holds no `=` or `,`, which a Slurm job could not read back."""
    parts = [*factors.items(), *([] if seed is None else [("seed", seed)])]
    name = "_".join(f"{key}-{value}" for key, value in parts)
    return "".join(c if (c.isascii() and c.isalnum()) or c in "-_.+" else "~" for c in name)
