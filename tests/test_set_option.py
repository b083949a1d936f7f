"""`--set` with several values: each override that follows it, and nothing else."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from ripstop.set_option import TakesSet, one_each

CASES = {
    "one": ("--set a=1", "--set a=1"),
    "several": ("--set a=1 b.c=2 d[0]=3", "--set a=1 --set b.c=2 --set d[0]=3"),
    "repeated": ("--set a=1 b=2 --set c=3 d=4", "--set a=1 --set b=2 --set c=3 --set d=4"),
    "with an equals sign": ("--set=a=1 b=2 --yes", "--set=a=1 --set b=2 --yes"),
    "what is no override is an argument": ("--set a=1 folder b=2", "--set a=1 folder b=2"),
    "a folder with an equals sign": ("--set a=1 ./x=1", "--set a=1 ./x=1"),
    "an option ends it": ("--set a=1 --data x=1 b=2", "--set a=1 --data x=1 b=2"),
    "whatever stands behind it is its value": ("--set --yes b=2", "--set --yes --set b=2"),
    "without it": ("a=1 b=2", "a=1 b=2"),
    "behind --": ("--set a=1 -- b=2", "--set a=1 -- b=2"),
    "lists and mappings": ("--set a=[1,2] b={c:3}", "--set a=[1,2] --set b={c:3}"),
    "itself as its value": ("--set --set a=1", "--set --set --set a=1"),
    "at the end": ("--set", "--set"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_override_has_its_option(name: str) -> None:
    given, wanted = CASES[name]
    assert list(one_each(given.split())) == wanted.split()


def test_a_command_takes_them() -> None:
    app = typer.Typer()

    @app.command(cls=TakesSet)
    def show(folder: str = typer.Argument(""), set_: list[str] = typer.Option([], "--set")) -> None:  # noqa: B008
        print(folder, set_)

    result = CliRunner().invoke(app, ["f", "--set", "a=1", "b=x y", "--set", "c=\n"])
    assert result.output == "f ['a=1', 'b=x y', 'c=\\n']\n"
