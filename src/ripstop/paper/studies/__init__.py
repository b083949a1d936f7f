"""Printers of studies, found by file name: `studies/<study>.py` turns the records of its study into what the paper shows.

A printer has

* `NUMBERS`: the names of its numbers, in order. Text and claims may use these;
* `numbers(records) -> dict[str, Estimate]`: those numbers;
* `figures(records) -> dict[str, Figure]` and `tables(records) -> dict[str, Table]`: any number of each, or neither
  function. Each is named by the study: `<study>`, or `<study>_<more>`;
* `ARMS`, if it names arms: factor -> the values that it names. One that no record has is an error, unless the parameters
  of the scale dropped it;
* `PARTS`, if a scale can do without a part of the evaluation: metric -> that part;
* `READS`, if it reads the records of other studies: their names. The functions take them as arguments of that name.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from ripstop.config import NAME, ConfigError, nearest


def names() -> list[str]:
    """Every study that can be printed, sorted. Imports none."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def load(study: str) -> ModuleType:
    """The study's printer; `ConfigError` with the file to add where there is none."""
    if study not in names():
        add = (
            f"add src/ripstop/paper/studies/{study}.py" if NAME.fullmatch(study) else "a study's name is letters, digits and _"
        )
        raise ConfigError(f"study {study!r} has no printer: {add}{nearest(study, names())}")
    printer = importlib.import_module(f"{__name__}.{study}")
    for needed in ("NUMBERS", "numbers"):
        if not hasattr(printer, needed):
            raise ConfigError(f"src/ripstop/paper/studies/{study}.py: has no {needed}; add it")
    return printer


def named(study: str) -> tuple[dict[str, set[str]], set[str]]:
    """What the printer names and a scale may drop: factor -> its arms, and the parts of the evaluation."""
    printer = load(study)
    arms = {factor: {str(arm) for arm in values} for factor, values in getattr(printer, "ARMS", {}).items()}
    return arms, set(getattr(printer, "PARTS", {}).values())


def reads(study: str) -> tuple[str, ...]:
    """The other studies whose records the printer reads."""
    return tuple(getattr(load(study), "READS", ()))
