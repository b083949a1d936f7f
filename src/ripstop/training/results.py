"""What a training leaves: model.safetensors and training.json, each naming the other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ripstop import provenance
from ripstop.config import ConfigError, TrainingError
from ripstop.files import remove_left, replacing, write_text
from ripstop.kernels import backend
from ripstop.models.base import Model
from ripstop.models.weights import save_weights
from ripstop.runs import Run
from ripstop.training.config import TrainingConfig
from ripstop.training.distributed.ranks import ALONE, Ranks
from ripstop.training.fp8 import in_use

MOVES_NO_NUMBER = "checks, writes and removes files"

MODEL, REPORT = "model.safetensors", "training.json"


def write_results(folder: Path, model: Model, report: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """The model's trained state, and `report` with its digest `model_sha256`: whoever finds the model finds everything.

    metadata: stands in the model's own file too.
    """
    try:
        with replacing(folder / MODEL) as temporary:
            save_weights(model, temporary, metadata)
            _sort_metadata(temporary)
            with open(temporary, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            write_text(folder / REPORT, json.dumps({**report, "model_sha256": digest}, indent=1, allow_nan=False) + "\n")
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{folder}: the trained model cannot be written ({error}); free some space and start the same command "
            "again: it resumes from the last checkpoint"
        ) from error


def _sort_metadata(path: Path) -> None:
    """Of a safetensors file, whose writer leaves it in an order of chance: the same weights are then the same bytes."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def check_room(run_dir: Path, model: Model, config: TrainingConfig) -> None:
    """`ConfigError` where the folder takes no file, or the disk has no room for a checkpoint beside an old one."""
    if not os.access(run_dir, os.W_OK | os.X_OK):
        raise ConfigError(f"{run_dir}: cannot be written to; mend its permissions")
    state = sum(tensor.nbytes for tensor in model.trained_state().values())
    copies = 3 + (config.keep == "best") + (config.on_divergence == "record")  # the model and an optimizer's two moments
    needed, free = 2 * copies * state + state, shutil.disk_usage(run_dir).free
    if free < needed:
        raise ConfigError(
            f"{run_dir}: a training writes about {needed / 1e6:,.0f} MB there, and {free / 1e6:,.0f} MB are free; make room"
        )


def circumstances(run: Run, model: Model, device: torch.device, ranks: Ranks = ALONE) -> dict[str, Any]:
    """What a result depends on besides its settings: size, device, processes, backends, versions, commit."""
    return {
        "n_params": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "frozen_base": model.frozen_base,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else provenance.processor(),
        "precision": in_use(run.training.precision, device) if run.training else "none",
        "threads": torch.get_num_threads(),
        "processes": ranks.n_ranks,
        "strategy": None if ranks.alone else run.parallel.strategy,
        "backends": backend.chosen(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }


def remove_results(folder: Path) -> None:
    """Those of an earlier training, the model first, and what kills left half written.

    `ConfigError`, and nothing is removed, where a folder stands in a file's place.
    """
    for name in (MODEL, REPORT, "metrics.jsonl"):
        if (folder / name).is_dir():
            raise ConfigError(f"{folder / name}: this is a folder, and a training writes a file there; move it away")
    for name in (MODEL, REPORT):
        (folder / name).unlink(missing_ok=True)
    for name in (MODEL, REPORT, "metrics.jsonl"):
        remove_left(folder / name)
