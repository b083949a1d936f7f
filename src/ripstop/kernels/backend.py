"""Which implementation of an operation runs, and why: the slow reference, torch, or an installed CUDA kernel.

Every operation has `reference` and `torch`, which run anywhere, and may have one kernel from a package that may be installed.
`auto` takes the kernel where device, precision and shapes allow it, else `torch`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from typing import NamedTuple

import torch

from ripstop.config import ConfigError

log = logging.getLogger(__name__)
HALF = (torch.bfloat16, torch.float16)


class Kernel(NamedTuple):
    """What a package brings for one operation. `name`, as a configuration says it, is the package's import name.

    A tuple, since torch 2.11's compiler takes no other object of ours for a constant.
    """

    op: str
    name: str
    install: str
    dtypes: tuple[torch.dtype, ...]


_chosen: dict[str, list[str]] = {}


def choose(wanted: str, kernel: Kernel, device: torch.device, dtype: torch.dtype, unfit: str | None = None) -> str:
    """Name of the backend of `kernel.op` for tensors on `device` in `dtype`.

    wanted: "auto", "reference", "torch" or the kernel's name. unfit: why this call's shapes are none for the kernel.
    ConfigError where the kernel is wanted by name and cannot run.
    """
    return _resolve(wanted, kernel, device, dtype, unfit)


# Asked while a graph is traced, not inside it: no break for look-up and logging. This is what the decorator
# torch.compiler.assume_constant_result sets, which imports the whole compiler: two seconds of every job on a CPU.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _resolve(wanted: str, kernel: Kernel, device: torch.device, dtype: torch.dtype, unfit: str | None) -> str:
    obstacle = _obstacle(kernel, device, dtype) or unfit
    if wanted in ("reference", "torch"):
        name, why = wanted, "as configured"
    elif wanted == "auto":
        name, why = (kernel.name, "installed, and fits") if obstacle is None else ("torch", f"{kernel.name}: {obstacle}")
    elif wanted == kernel.name:
        if obstacle is not None:
            raise ConfigError(f"backend {wanted!r} of {kernel.op} cannot run ({obstacle}); set backend to 'auto'")
        name, why = wanted, "as configured"
    else:
        raise ConfigError(f"{kernel.op} has no backend {wanted!r}; there is: auto, reference, torch, {kernel.name}")
    _note(f"{kernel.op} on {device.type} in {str(dtype).removeprefix('torch.')}", f"{name} ({why})")
    return name


def chosen() -> dict[str, str]:
    """Every choice so far, `"ssd on cpu in float32"` -> `"torch (mamba_ssm: needs CUDA)"`, to be recorded with results; more
    than one, in the order in which they were made, are joined by `; `."""
    return {case: "; ".join(choices) for case, choices in _chosen.items()}


def _note(case: str, choice: str) -> None:
    choices = _chosen.setdefault(case, [])
    if choice not in choices:
        choices.append(choice)
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
