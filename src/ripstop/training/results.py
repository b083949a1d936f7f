"""What a training leaves: model.safetensors and training.json, each naming the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ripstop.config import TrainingError
from ripstop.files import replacing, write_text
from ripstop.models.base import Model
from ripstop.models.weights import save_weights

MOVES_NO_NUMBER = "writes what was trained"

MODEL, REPORT = "model.safetensors", "training.json"


def write_results(folder: Path, model: Model, report: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """The model's trained state, and `report` with its digest `model_sha256`: whoever finds the model finds everything.

    metadata: stands in the model's own file too.
    """
    try:
        with replacing(folder / MODEL) as temporary:
            save_weights(model, temporary, metadata)
            with open(temporary, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            write_text(folder / REPORT, json.dumps({**report, "model_sha256": digest}, indent=1, allow_nan=False) + "\n")
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{folder}: the trained model cannot be written ({error}); free some space and start the same command "
            "again: it resumes from the last checkpoint"
        ) from error


def remove_results(folder: Path) -> None:
    """Those of an earlier training, the model first, and what kills left half written."""
    for name in (MODEL, REPORT):
        (folder / name).unlink(missing_ok=True)
    for name in (MODEL, REPORT, "metrics.jsonl"):
        for leftover in folder.glob(f".{name}.*"):
            leftover.unlink()
