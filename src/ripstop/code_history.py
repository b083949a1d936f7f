"""Of which modules a digest of code was made, kept in the user's cache, so that a change of it can be told by name.

A digest tells that code changed, and not where. What lies here says it for every digest that was planned on this machine;
without it, as on another one, nothing is lost but the name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ripstop.code_digest import module_digests
from ripstop.config import ConfigError
from ripstop.files import cache_folder, write_if_different

MOVES_NO_NUMBER = "it names what changed"


def remember(digest: str, modules: Iterable[str], cuda: bool = False) -> None:
    """Keep what the code that starts from `modules` is made of, under its digest or the one that it was accepted for.

    A cache that cannot be written costs names, not results.
    """
    path = _path(digest)
    with suppress(OSError, ConfigError):
        if path is not None:
            write_if_different(path, json.dumps(module_digests(modules, cuda)))


def changed(before: str, now: str) -> list[str]:
    """The modules that differ between two digests: changed, added or removed. None where one of them is not known here."""
    old, new = _modules(before), _modules(now)
    return sorted(module for module in old | new if old.get(module) != new.get(module)) if old and new else []


def _modules(digest: str) -> dict[str, str]:
    path = _path(digest)
    try:
        found = json.loads(path.read_bytes()) if path is not None else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _path(digest: str) -> Path | None:
    folder = cache_folder()
    return folder / "code" / f"{digest}.json" if folder is not None and digest.isalnum() else None
