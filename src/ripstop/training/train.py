"""Train one run of the grid: its folder's configuration in, its model and training.json out."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from ripstop import provenance, yaml_file
from ripstop.batch import Batch, BatchStream
from ripstop.choices import resolved
from ripstop.config import ConfigError, TrainingError
from ripstop.files import read_text, sentence
from ripstop.models.accounting import describe
from ripstop.models.base import Model
from ripstop.runs import Run
from ripstop.training.lock import Lock
from ripstop.training.precision import prepare_device
from ripstop.training.randomness import seed_everything
from ripstop.training.results import check_room, circumstances, remove_results, write_results
from ripstop.training.trainer import Trainer

LOCK = "training.lock"
DESCRIBED_LENGTH = 1024
"""Tokens of the sequence whose FLOPs and state a training says at its start."""


def train(run_dir: Path, data: Path, overrides: Sequence[str] = ()) -> None:
    """Train the run whose files lie in `run_dir` on the prepared folder `data`, from where an earlier call was stopped.

    Writes metrics.jsonl while it runs, then training.json and, last, model.safetensors. Results of an earlier training
    are removed at the start, so that there is never a model beside another configuration, and not before everything that
    can be checked was: `ConfigError` leaves the folder as it was.
    """
    started = time.perf_counter()
    run_dir, data = Path(run_dir), Path(data)
    run = Run.load(run_dir, overrides)
    with _one_sentence(run_dir), Lock(run_dir / LOCK):
        config = run.files()["config.yaml"] if overrides else resolved(run_dir)
        training = _prepare(run, run_dir, data, config)
        remove_results(run_dir)
        summary = training.trainer.fit()
        facts = {"study": run.study, "run": run.name, "seed": run.seed}
        report = facts | summary | circumstances(run, training.model, training.trainer.device) | {"identity": training.identity}
        metadata = {key: str(value) for key, value in (facts | training.identity).items()}
        write_results(run_dir, training.model, report, metadata)
        training.trainer.checkpoints.clear()
        for folder in training.trainer.checkpoints.others():
            print(f"{folder}: checkpoints that another training left; remove them where nobody goes on with it", flush=True)
    took = timedelta(seconds=round(time.perf_counter() - started))
    outcome = "results" if summary["outcome"] == "finished" else "the training diverged; results"
    print(f"{outcome} in {run_dir}: model.safetensors, training.json, metrics.jsonl; took {took}", flush=True)


@dataclass(frozen=True)
class _Training:
    """Everything that a training needs, checked."""

    run: Run
    model: Model
    trainer: Trainer
    identity: dict[str, str]


def _prepare(run: Run, run_dir: Path, data: Path, config: str) -> _Training:
    """Build what the training needs. Nothing that lies in `run_dir` is changed. config: text of the resolved one."""
    told = run.training
    if told is None:
        raise ConfigError(f"{run_dir / 'config.yaml'}: training: there is none, so this run has nothing to train")
    code = run_dir / "train.code"
    if not code.is_file():
        raise ConfigError(f"{code}: no such file; run the workflow's plan, or `python -m ripstop plan`, first")
    run.data.verify(data)
    identity = {
        "configuration": provenance.digest(config),
        "code": read_text(code).strip(),
        "data": provenance.digest((data / "data.json").read_bytes()),
    }
    info = run.data.info(data)
    described = {"model": describe(run.model, info.vocab_size, DESCRIBED_LENGTH)}
    print(yaml_file.dump(described), end="")
    print(f"{run_dir}: training with\n{config}", flush=True)

    device = prepare_device(run.compute, told.precision)
    seed_everything(run.seed)
    model = run.model.build(info)
    plan = told.stream_plan(run.seed)
    stream = run.data.stream(data, plan)
    position = stream.state_dict()
    _first(stream, "training")
    stream.load_state_dict(position)
    validation = functools.partial(run.data.validation, data, plan) if told.validate_every else None
    if validation is not None:
        _first(iter(validation()), "validation")
    trainer = Trainer(
        model, stream, told, run_dir, objective=told.objective.build(), seed=run.seed, identity=identity,
        flops=functools.partial(run.model.batch_flops, info.vocab_size), validation=validation, device=device,
        reporting=run.reporting, settings=_flat(yaml_file.parse(config, "config.yaml")),
    )  # fmt: skip
    check_room(run_dir, model, told)
    return _Training(run, model, trainer, identity)


def _first(batches: Iterator[Batch] | BatchStream, what: str) -> None:
    try:
        batch = next(batches)
    except StopIteration:
        raise ConfigError(f"data: there is no {what} batch; correct the data") from None
    if what == "training" and batch.n_tokens == 0:
        raise ConfigError("data: the first training batch is empty; correct the data")


def _flat(values: Any, prefix: str = "") -> dict[str, str]:
    """A configuration as one text by dotted key, as `--set` writes them."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(values, Mapping) and values:
        items = values.items()
    else:
        return {prefix: str(values)}
    return {key: text for name, value in items for key, text in _flat(value, f"{prefix}.{name}".lstrip(".")).items()}


@contextmanager
def _one_sentence(run_dir: Path) -> Iterator[None]:
    """What a disk or the memory refuses."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(_no_memory(run_dir)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # a CPU's allocator has no error of its own
            raise
        raise TrainingError(_no_memory(run_dir)) from error
    except OSError as error:
        raise TrainingError(sentence(error) if error.filename else f"{run_dir}: {sentence(error)}") from error


def _no_memory(run_dir: Path) -> str:
    return (
        f"{run_dir}: the memory does not suffice; lower training.tokens_per_step, or raise training.accumulation, "
        "which reads as many tokens in more batches"
    )
