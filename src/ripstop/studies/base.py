"""What all studies share: measurements become records, and a grid of factors becomes runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ripstop import provenance, studies
from ripstop.batch import Vocabulary
from ripstop.config import ConfigError
from ripstop.models.base import Model
from ripstop.models.weights import load_weights
from ripstop.records import Measurement, Record, write_records
from ripstop.runs import Run
from ripstop.training.precision import prepare_device


def load_trained(run: Run, folder: Path, data: Path) -> Model:
    """The run's model with its trained weights, in evaluation mode."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(f"{weights}: no trained model; run `python -m ripstop train {folder} --data {data}` first")
    model = run.model.build(Vocabulary(run.data.vocab_size(data)))
    load_weights(model, weights)
    return model.eval()


def evaluate(folder: Path, data: Path) -> Path:
    """Measure the run in `folder` and write its records.jsonl, whole or not at all."""
    run = Run.load(folder)
    device = prepare_device(run.compute, run.training.precision)
    model = load_trained(run, folder, data).to(device)
    identity = {
        "part": "all",
        "model": provenance.digest((folder / "model.safetensors").read_bytes()),
        "code": (folder / "evaluate.code").read_text(encoding="utf-8").strip(),
        "config": provenance.digest((folder / "config.yaml").read_bytes()),
        "data": provenance.digest((data / "data.json").read_bytes()),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else provenance.processor(),
    }
    out = folder / "records.jsonl"
    with torch.inference_mode():
        records = [_record(run, measured, identity) for measured in _measure(run, model, data)]
    write_records(out, records)
    return out


def _measure(run: Run, model: Model, data: Path) -> Iterator[Measurement]:
    yield from studies.load(run.study).evaluate(model, run, data)


def _record(run: Run, measured: Measurement, identity: dict[str, str]) -> Record:
    known = {"study": run.study, "run": run.name, "scale": run.scale, "seed": run.seed, "factors": run.factors}
    return Record.of(measured, f"{run.study}/{run.name}", **known, **identity)
