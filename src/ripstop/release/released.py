"""What an archive says of the checkout that it was made from, in place of git, which it lacks."""

from __future__ import annotations

import json
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.files import read_text

MOVES_NO_NUMBER = "it says where files come from"

FILE = "RELEASE.json"
"""In the root of an archive."""


def drawn_at(root: Path) -> str:
    """The commit that an archive unpacked at `root` was drawn at; "" where it is a checkout, which git knows."""
    path = root / FILE
    if not path.is_file():
        return ""
    try:
        commit = json.loads(read_text(path))["drawn_at"]
    except (ValueError, TypeError, KeyError):
        commit = None
    if not isinstance(commit, str) or not commit:
        raise ConfigError(f"{path}: does not say `drawn_at`, so it is damaged; unpack the archive again")
    return commit
