"""`--set a=1 b=2`: one option with as many values as follow it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand

MOVES_NO_NUMBER = "it reads a command line, whose values stand resolved in the files that the stages read"

OPTION = "--set"
OVERRIDE = re.compile(r"[A-Za-z_][\w.\[\]]*=.*", re.DOTALL)


class TakesSet(TyperCommand):
    """A command whose `--set` takes every override that follows it, and may be repeated all the same."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(one_each(args)))


def one_each(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments with `--set` before each override.

    >>> list(one_each(["--set", "a=1", "b.c=2", "--yes"]))
    ['--set', 'a=1', '--set', 'b.c=2', '--yes']
    """
    is_value, goes_on = False, False  # right behind `--set`; behind a value of it
    for number, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[number:]
            return
        if goes_on and OVERRIDE.fullmatch(argument):
            yield OPTION
        else:
            goes_on = is_value or argument.startswith(f"{OPTION}=")
        is_value = not goes_on and argument == OPTION
        yield argument
