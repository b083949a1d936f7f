"""Studies, found by name: module `studies/<study>.py` says which runs there are, on which data, measured how.

A study module has `Params` (its block of params.yaml, a `StudyParams`) and `arms(params)`, what is compared.
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
    """The study's module; `ConfigError` with the nearest name where there is none, or where it lacks a part."""
    if name not in names():
        raise ConfigError(f"study {name!r} has no module src/ripstop/studies/{name}.py{nearest(name, names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    for needed in ("Params", "arms"):
        if not hasattr(module, needed):
            raise ConfigError(f"src/ripstop/studies/{name}.py: defines no {needed}; see the README on adding a study")
    return module
