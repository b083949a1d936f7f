"""A model's trained weights as a file: what it stands on is named in it, and compared when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ripstop.config import ConfigError
from ripstop.models.base import Model

BASE = "frozen_base"
"""Key of the file's metadata that holds `Model.frozen_base`."""


def save_weights(model: Model, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write `model.trained_state()` as safetensors, with `metadata` in its header: what else is known of the weights.

    `OSError` or `SafetensorError` where the disk does not take it.
    """
    state = {name: tensor.contiguous() for name, tensor in model.trained_state().items()}
    save_file(state, path, {**(metadata or {}), "format": "pt", BASE: model.frozen_base})


def load_weights(model: Model, path: Path) -> None:
    """Read what `save_weights` wrote for an equal model; `ConfigError` names the file and what does not fit."""
    try:
        with safe_open(path, "pt") as file:
            base = (file.metadata() or {}).get(BASE, "")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  safe_open is no mapping
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot be read as weights ({error}); train the run again") from None
    try:
        model.load_trained(state, base)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
