"""An answer in a terminal, the short of it first; the same as plain text where the output is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ripstop.why.answer import Answer
from ripstop.why.paper import stood_on

MOVES_NO_NUMBER = "it tells what lies there"
MOST = 12
"""Records that are shown without `--all`."""
NOT_KEPT = "not kept"


class Screen:
    """everything: every record, and every run with its files and stages."""

    def __init__(self, answer: Answer, everything: bool = False):
        self.answer, self.everything = answer, everything

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        answer = self.answer
        head = Text(answer.name, style="bold", overflow="fold")
        if answer.printed:
            head.append(f"  {answer.printed}", style="bold green")
        yield head.append(f" {answer.estimate.get('unit', '')}".rstrip())
        yield Text(f"  a {answer.kind} at scale {answer.scale}")
        for label, sentence in answer.said.items():
            yield Text(f"  {label}: {sentence}", overflow="fold")
        if answer.kind == "count":
            yield from (Text(f"  {name}") for name in answer.of)
            return
        n = answer.estimate.get("n")
        yield Text(f"  rests on: {_counted(len(answer.records), 'record')} of {_counted(len(answer.runs), 'run')}"
                   + (f"; n = {n}" if n is not None else ""))  # fmt: skip
        if answer.records:
            yield Text()
            yield _records(answer, None if self.everything else MOST)
            if not self.everything and len(answer.records) > MOST:
                yield Text(f"... and {len(answer.records) - MOST} more records; --all shows them")
        yield Text()
        yield from self._each_run() if self.everything else _folded(answer)

    def _each_run(self) -> Iterator[RenderableType]:
        for (study, run), found in self.answer.runs.items():
            yield Text(f"{study}/{run}", style="bold", overflow="fold")
            yield from (Text(f"  {line}", overflow="fold") for line in _chain(found))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def _records(answer: Answer, most: int | None) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("run", "part", "metric", "slice"):
        table.add_column(heading, overflow="fold")
    for heading in ("value", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in answer.records[:most]:
        slices = ", ".join(f"{key} {value}" for key, value in record["slice"].items())
        value = f"{record['value']:.6g} {record['unit']}".rstrip()
        cells = (record["run"], record["part"], record["metric"], slices, value, str(record["n"]))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _folded(answer: Answer) -> Iterator[RenderableType]:
    """Runs that stood on the same, a line each."""
    groups = Counter(" · ".join(_stood_on(found)) for found in answer.runs.values())
    for circumstances, n in groups.items():
        yield Text(f"{_counted(n, 'run')}: {circumstances}", overflow="fold")
    if answer.runs:
        yield Text("--all shows each run with its configuration, data, code and log")


def _stood_on(run: Mapping[str, Any]) -> Iterator[str]:
    stage = stood_on(run)
    yield f"commit {stage.get('commit') or NOT_KEPT}"
    yield str(stage.get("device") or f"device {NOT_KEPT}")
    yield ", ".join(f"{name} {version}" for name, version in (stage.get("versions") or {}).items()) or f"versions {NOT_KEPT}"


def _chain(run: Mapping[str, Any]) -> Iterator[str]:
    if not run:
        yield f"where it comes from was {NOT_KEPT}; collect its study's records again, where the runs are"
        return
    for label in ("config", "data"):
        yield f"{label}: {run[label]['path'] or NOT_KEPT}  digest {run[label]['digest'] or NOT_KEPT}"
    if run["model"]:
        yield f"model: digest {run['model']}"
    for name, stage in run["stages"].items():
        code = f"code {stage['code'] or NOT_KEPT}"
        settings = f", settings {stage['settings']} digest {stage['config']}" if "config" in stage else ""
        yield f"{name}: {code}{settings}, log {stage['log'] or NOT_KEPT}"
        yield f"  {' · '.join(_stood_on({'stages': {name: stage}}))}"
