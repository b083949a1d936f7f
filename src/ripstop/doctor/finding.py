"""What a check finds, and checks that cannot fail otherwise than by a finding."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """level: FAIL where scale cpu does not work without it; note where something optional is missing or odd.

    remedy: the command that mends it; "" where there is none.
    """

    name: str
    level: Level
    said: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def examine(name: str, check: Check, broken: Level = "FAIL", remedy: str = "") -> Iterator[Finding]:
    """The findings of `check`. Whatever it raises is one too, of level `broken`: a broken set-up raises anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield from check()
        except (Exception, SystemExit) as error:
            yield Finding(name, broken, reason(error), remedy)


def reason(error: BaseException) -> str:
    """An error in one sentence."""
    said = " ".join(str(error).split()) or "no reason given"
    said = said if len(said) <= 300 else f"{said[:300]} ..."
    return said if type(error).__name__ in ("ConfigError", "TrainingError") else f"{type(error).__name__}: {said}"
