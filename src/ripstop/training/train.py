"""Train one run of the grid: its folder's configuration in, its model and training.json out."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ripstop import provenance
from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.files import replacing, write_text
from ripstop.kernels import backend
from ripstop.models.base import Model
from ripstop.models.weights import save_weights
from ripstop.runs import Run
from ripstop.training.config import TrainingError
from ripstop.training.precision import prepare_device
from ripstop.training.randomness import seed_everything
from ripstop.training.trainer import Trainer


def train(run_dir: Path, data: Path, overrides: Sequence[str] = ()) -> None:
    """Train the run whose files lie in `run_dir` on the prepared folder `data`, from where an earlier call was stopped.

    Writes metrics.jsonl while it runs, then training.json and, last, model.safetensors; results of an earlier training
    are removed at the start, so that there is never a model beside another configuration.
    """
    started = time.perf_counter()
    run = Run.load(run_dir, overrides)
    config = run.files()["config.yaml"]
    identity = _identity(run_dir, data, config)
    print(f"{run_dir}: training with\n{config}", flush=True)
    for name in ("model.safetensors", "training.json"):
        (run_dir / name).unlink(missing_ok=True)
    for name in ("model.safetensors", "training.json", "metrics.jsonl"):
        for leftover in run_dir.glob(f".{name}.*"):  # of a kill while it was written
            leftover.unlink()

    device = prepare_device(run.compute, run.training.precision)
    seed_everything(run.seed)
    vocab_size = run.data.vocab_size(data)
    model = run.model.build(Vocabulary(vocab_size))
    stream = run.data.stream(data, run.training.stream_plan(run.seed))
    flops = functools.partial(run.model.batch_flops, vocab_size)
    trainer = Trainer(
        model, stream, run.training, run_dir, objective=run.training.objective.build(), seed=run.seed, identity=identity,
        flops=flops, device=device, reporting=run.reporting,
    )  # fmt: skip
    summary = trainer.fit()

    summary |= _circumstances(model, trainer.device, run) | {"identity": identity}
    _write_results(run_dir, model, summary)
    trainer.checkpoints.clear()
    took = timedelta(seconds=round(time.perf_counter() - started))
    print(f"results in {run_dir}: model.safetensors, training.json, metrics.jsonl; took {took}", flush=True)


def _identity(run_dir: Path, data: Path, config: str) -> dict[str, str]:
    """What a checkpoint must share to be resumed: digests of configuration, code and data."""
    described = data / "data.json"
    if not described.is_file():
        raise ConfigError(f"{described}: no such file; run `python -m ripstop prepare` for this folder first")
    code = run_dir / "train.code"
    return {
        "configuration": provenance.digest(config),
        "code": code.read_text().strip() if code.is_file() else "unknown",
        "data": provenance.digest(described.read_bytes()),
    }


def _circumstances(model: Model, device: torch.device, run: Run) -> dict[str, Any]:
    cuda = device.type == "cuda"
    return {
        "n_params": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "device": torch.cuda.get_device_name(device) if cuda else provenance.processor(),
        "precision": run.training.precision,
        "threads": torch.get_num_threads(),
        "backends": backend.chosen(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }


def _write_results(run_dir: Path, model: Model, summary: dict[str, Any]) -> None:
    """training.json, then model.safetensors: whoever finds the model finds everything."""
    try:
        write_text(run_dir / "training.json", json.dumps(summary, indent=1) + "\n")
        with replacing(run_dir / "model.safetensors") as temporary:
            save_weights(model, temporary)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{run_dir}: the trained model cannot be written ({error}); free some space and start the same command "
            "again: it resumes from the last checkpoint"
        ) from error
