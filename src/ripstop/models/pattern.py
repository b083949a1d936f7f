"""Architecture as a line of data: one letter a layer, with counts and brackets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from ripstop.config import ConfigError
from ripstop.mixers.base import MixerConfig

T = TypeVar("T")

LONGEST = 1024
"""Layers of the longest pattern: a slip of the finger in a count must not fill the memory."""


def parse(pattern: str) -> str:
    """The pattern written out. A count follows what it repeats; without one, it stands once.

    >>> parse("M7A"), parse("(M3A)2"), parse("M(MA)2A")
    ('MMMMMMMA', 'MMMAMMMA', 'MMAMAA')
    """
    open_brackets: list[tuple[int, list[str]]] = []
    layers: list[str] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        if c == "(":
            open_brackets.append((i, layers))
            layers, i = [], i + 1
            continue
        if c == ")":
            if not open_brackets:
                raise _error(pattern, i, "')' closes no bracket; remove it")
            if not layers:
                raise _error(pattern, i, "the bracket is empty; put letters into it")
            item, layers = layers, open_brackets.pop()[1]
        elif c.isascii() and c.isalpha():
            item = [c]
        elif c.isascii() and c.isdigit():
            raise _error(pattern, i, "a count must follow a letter or a bracket, as in 'M7A' or '(M7A)4'")
        else:
            raise _error(pattern, i, f"{c!r} is no letter, count or bracket; remove it")
        i, count = _count(pattern, i + 1)
        if (len(layers) + len(item) * count) > LONGEST:
            raise _error(pattern, i - 1, f"there are more than {LONGEST} layers; lower the count")
        layers = layers + item * count
    if open_brackets:
        raise _error(pattern, open_brackets[-1][0], "the bracket is never closed; add ')'")
    if not layers:
        raise ConfigError("pattern: is empty; give one letter a layer, as in 'MMMA' or '(M7A)4'")
    return "".join(layers)


def letter_counts(pattern: str) -> dict[str, int]:
    """Layers of each letter, in the order in which they first come: the hybrid ratio.

    >>> letter_counts("(M7A)4")
    {'M': 28, 'A': 4}
    """
    return dict(Counter(parse(pattern)))


def check_letters(pattern: str, mixers: Mapping[str, object], name: str = "pattern") -> None:
    """`ConfigError` where a letter of the pattern is no key of the table `mixers`."""
    for letter in letter_counts(pattern):
        if letter not in mixers:
            there = ", ".join(mixers) or "nothing"
            raise ConfigError(f"{name} {pattern!r} has the letter {letter!r}, and mixers holds {there}; add it there")


def check_sizes(pattern: str, mixers: Mapping[str, MixerConfig], d_model: int) -> None:
    """`ConfigError` where a mixer that the pattern uses cannot be built at width `d_model`."""
    for letter, mixer in used(mixers, pattern).items():
        try:
            mixer.num_params(d_model)
        except ConfigError as error:
            raise ConfigError(f"mixers.{letter}: {error}") from None


def used(mixers: Mapping[str, T], *patterns: str) -> dict[str, T]:
    """The entries of a table that the patterns use, so that a run depends on no other mixer's settings or code."""
    letters = set().union(*(letter_counts(pattern) for pattern in patterns))
    return {letter: mixer for letter, mixer in mixers.items() if letter in letters}


def _count(pattern: str, start: int) -> tuple[int, int]:
    """End of the digits at `start`, and their number; 1 where there are none."""
    end = start
    while end < len(pattern) and pattern[end].isascii() and pattern[end].isdigit():
        end += 1
    if end == start:
        return end, 1
    if end - start > 4 or not 0 < int(pattern[start:end]) <= LONGEST:
        raise _error(pattern, start, f"a count goes from 1 to {LONGEST}")
    return end, int(pattern[start:end])


def _error(pattern: str, index: int, what: str) -> ConfigError:
    return ConfigError(f"pattern {pattern!r}, position {index + 1}: {what}")
