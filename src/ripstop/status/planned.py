"""Planned files as they lie in the tree, beside what the plan would write."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ripstop import yaml_file
from ripstop.plan import Plan

MOVES_NO_NUMBER = "it reads what the plan wrote"


class Planned:
    """One file of the plan: its text there, None where it is none, and in the tree, None where it cannot be read."""

    def __init__(self, path: str, plan: Plan, root: Path = Path()):
        self.path = Path(path)
        self.planned = plan.files.get(path.removeprefix(f"{plan.folder()}/"))
        self.lying: str | None
        try:
            self.lying = (root / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            self.lying = None

    @property
    def differs(self) -> bool:
        """Whether it would be written anew."""
        return self.planned is not None and self.planned != self.lying


@functools.lru_cache(maxsize=4096)
def values(text: str) -> Any:
    """What the YAML of a planned file says; `ValueError` where it is none any more. Hundreds are read."""
    return yaml_file.parse_dumped(text)
