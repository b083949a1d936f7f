"""Which implementation of an operation runs, and why: the slow reference, torch, or an installed CUDA kernel.

Every operation has `reference` and `torch`, which run anywhere, and one kernel from a package that may be installed.
`auto` takes the kernel where device, precision and shapes allow it, else `torch`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from dataclasses import dataclass

import torch

from ripstop.config import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernel:
    """A kernel that a package brings: its name here is the package's import name."""

    name: str
    install: str
    dtypes: tuple[torch.dtype, ...]


_HALF = (torch.bfloat16, torch.float16)
KERNELS = {
    "ssd": Kernel("mamba_ssm", "pip install --no-build-isolation mamba-ssm", (*_HALF, torch.float32)),
    "convolution": Kernel("causal_conv1d", "pip install --no-build-isolation causal-conv1d", (*_HALF, torch.float32)),
    "attention": Kernel("flash_attn", "pip install --no-build-isolation flash-attn", _HALF),
}
_chosen: dict[str, str] = {}


def choose(wanted: str, op: str, device: torch.device, dtype: torch.dtype, unfit: str | None = None) -> str:
    """Name of the backend of `op` ("ssd", "convolution", "attention") for tensors on `device` in `dtype`.

    wanted: "auto", "reference", "torch" or the kernel's name. unfit: why this call's shapes are none for the kernel.
    ConfigError where the kernel is wanted by name and cannot run.
    """
    kernel = KERNELS[op]
    obstacle = _obstacle(kernel, device, dtype) or unfit
    if wanted in ("reference", "torch"):
        name, why = wanted, "as configured"
    elif wanted == "auto":
        name, why = (kernel.name, "installed, and fits") if obstacle is None else ("torch", f"{kernel.name}: {obstacle}")
    elif wanted == kernel.name:
        if obstacle is not None:
            raise ConfigError(f"backend {wanted!r} of {op} cannot run ({obstacle}); set backend to 'auto'")
        name, why = wanted, "as configured"
    else:
        raise ConfigError(f"{op} has no backend {wanted!r}; there is: auto, reference, torch, {kernel.name}")
    _note(f"{op} on {device.type} in {str(dtype).removeprefix('torch.')}", f"{name} ({why})")
    return name


def chosen() -> dict[str, str]:
    """Every choice so far, `"ssd on cpu in float32"` -> `"torch (mamba_ssm: needs CUDA)"`: to be recorded with results."""
    return dict(_chosen)


def _note(case: str, choice: str) -> None:
    if _chosen.get(case) != choice:
        _chosen[case] = choice
        log.info("%s: %s", case, choice)


def _obstacle(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return "needs a CUDA device"
    if dtype not in kernel.dtypes:
        return f"has no {str(dtype).removeprefix('torch.')}"
    return _import_problem(kernel)


@functools.cache
def _import_problem(kernel: Kernel) -> str | None:
    """Why the package cannot be used, None where it can. Built against another torch, it is there and fails on import."""
    if importlib.util.find_spec(kernel.name) is None:
        return f"is not installed: {kernel.install}, in the order of envs/gpu"
    try:
        importlib.import_module(kernel.name)
    except ImportError as error:
        return f"is installed but does not import, {error}: rebuild it with {kernel.install}, in the order of envs/gpu"
    return None
