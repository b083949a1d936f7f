"""env.json: what a training stands on, written as it starts; training.json says the rest, of one that has ended."""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from ripstop import provenance
from ripstop.files import write_text

MOVES_NO_NUMBER = "says what a training stands on"

ENVIRONMENT = "env.json"
MOVE_NUMBERS = (
    "CUDA_", "CUBLAS_", "CUDNN_", "GLOO_", "GOMP_", "KMP_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTHONHASHSEED",
    "PYTORCH_", "RIPSTOP_", "SLURM_", "TOKENIZERS_", "TORCH", "TRITON_",
)  # fmt: skip
"""Beginnings of the names of variables that can move a number, or that say which machine of several this is."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "JWT")
"""Parts of names whose values nobody writes down, but for those of `MOVE_NUMBERS` that begin so."""


def write_environment(out: Path, device: torch.device, n_ranks: int = 1) -> None:
    """Write env.json of this session into the folder of a training; the one of an earlier session is replaced.

    For the one process that writes the training's files. n_ranks: processes that train together.
    """
    write_text(Path(out) / ENVIRONMENT, json.dumps(environment(device, n_ranks), indent=1) + "\n")


def environment(device: torch.device, n_ranks: int = 1) -> dict[str, Any]:
    """What env.json holds. memory_bytes: of the GPU. cpus: those that this process may use."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "folder": os.getcwd(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "system": platform.platform(),
        "ranks": n_ranks,
        "device": _gpu(device) if device.type == "cuda" else {"name": provenance.processor()},
        "cpus": provenance.cpus(),
        "threads": torch.get_num_threads(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "environment": moving(os.environ),
    }


def moving(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of `variables` that move numbers, by name; none that may hold a secret."""
    names = sorted(name for name in variables if name.startswith(MOVE_NUMBERS))
    kept = [name for name in names if name.startswith("TOKENIZERS_") or not any(part in name for part in SECRET)]
    return {name: variables[name] for name in kept}


def _gpu(device: torch.device) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else None,
    }
