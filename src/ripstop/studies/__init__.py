"""Studies, found by name: module `studies/<study>.py` says which runs, which data and which measures.

A study module has `Params` (its block of params.yaml), `runs(params, scale)` and `evaluate(model, run, data)`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from ripstop.config import ConfigError, nearest


def names() -> list[str]:
    """Every study, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def load(name: str) -> ModuleType:
    """The study's module; `ConfigError` with the nearest name where there is none."""
    if name not in names():
        raise ConfigError(f"study {name!r} has no module studies/{name}.py{nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name}")
