"""Evaluating a run, part by part: what was trained is checked, measured, and written as records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ripstop import provenance
from ripstop.choices import resolved
from ripstop.config import ConfigError
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.files import read_text, scratch_folder
from ripstop.records import Measurement, Record, write_records
from ripstop.runs import Run
from ripstop.training.precision import prepare_device

RECORDS = "records.jsonl"


def evaluate(folder: Path, data: Path, part: str) -> Path:
    """Measure one part of the run in `folder`. Writes parts/<part>/, records last, whole or not at all.

    `ConfigError` where the model is not what this run's configuration, code and data make, or where a file is damaged.
    """
    run = Run.load(folder, parts=[part])
    settings = run.evaluation[part]
    run.data.verify(data)
    made = identity(run, folder, data, part)
    report = training_report(run, folder, made)
    device = prepare_device(run.compute)
    out = folder / "parts" / part
    with scratch_folder(out) as scratch:
        subject = Subject(run, folder, data, scratch, device)
        known: dict[str, Any] = made | {
            "study": run.study,
            "run": run.name,
            "scale": run.scale,
            "seed": run.seed,
            "factors": run.factors,
            "part": part,
            "model": report.get("model_sha256", "")[:16],
            "commit": str(report.get("commit", "")) if report else provenance.commit(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else provenance.processor(),
        }
        with torch.inference_mode():
            measured = _measurements(settings, subject, report)
            records = [Record.of(one, f"{folder}: part {part}", **known) for one in measured]
        missing = [name for name in settings.files if not (scratch / name).is_file()]
        if missing and report.get("outcome") != "diverged":
            raise TypeError(f"part {part} declares {', '.join(missing)} and did not write it")
        write_records(scratch / RECORDS, records)
        _take_place(scratch, out)
    return out / RECORDS


def identity(run: Run, folder: Path, data: Path, part: str) -> dict[str, str]:
    """Digests of the code and configuration of a part, and of its data."""
    code = folder / f"{part}.code"
    if not code.is_file():
        raise ConfigError(f"{code}: no such file; `python -m ripstop plan --write` writes the files of every run")
    config = resolved(folder) + read_text(folder / f"{part}.yaml")
    return {
        "code": read_text(code).strip(),
        "config": provenance.digest(config),
        "data": provenance.digest((data / "data.json").read_bytes()),
    }


def _measurements(settings: PartConfig, subject: Subject, report: dict[str, Any]) -> Iterator[Measurement]:
    """What the part measures. A run that was allowed to diverge measures that alone."""
    diverged = report.get("outcome") == "diverged"
    if subject.run.training is not None and subject.run.training.on_divergence == "record":
        yield Measurement("diverged", int(diverged), "count", 1)
    if not diverged:
        yield from settings.measure(subject)


def training_report(run: Run, folder: Path, made: dict[str, str]) -> dict[str, Any]:
    """training.json, after checking that its model is the one that lies here and belongs to this run and data."""
    if run.training is None:
        return {}
    path, weights = folder / "training.json", folder / "model.safetensors"
    again = f"run `python -m ripstop train {folder}` with its data"
    for needed in (weights, path):
        if not needed.is_file():
            raise ConfigError(f"{needed}: no such file, the run is not trained; {again}")
    try:
        report = json.loads(read_text(path))
        trained = report["identity"]
        digest = report["model_sha256"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ConfigError(f"{path}: not a report of a training; {again}") from None
    if provenance.file_sha256(weights) != digest:
        raise ConfigError(f"{weights}: is not the model that {path.name} describes, or damaged; delete both and {again}")
    wanted = {
        "configuration": provenance.digest(resolved(folder)),
        "code": read_text(folder / "train.code").strip() if (folder / "train.code").is_file() else "unknown",
        "data": made["data"],
    }
    differ = [key for key, value in wanted.items() if trained.get(key) != value]
    if differ:
        raise ConfigError(
            f"{weights}: was trained with another {' and another '.join(differ)} than the run has now; {again} again"
        )
    if report.get("outcome") == "diverged" and run.training.on_divergence != "record":
        raise ConfigError(f"{path}: says that the training diverged, which this run does not allow; delete it and {again}")
    return report


def _take_place(scratch: Path, out: Path) -> None:
    """The files of `scratch` into `out`, the records last: whoever finds them finds everything."""
    out.mkdir(exist_ok=True)
    (out / RECORDS).unlink(missing_ok=True)
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == RECORDS):
        path.replace(out / path.name)
