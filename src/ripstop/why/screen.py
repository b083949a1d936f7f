"""An answer in a terminal, the short of it first; the same as plain text where the output is none."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ripstop.why.answer import Answer
from ripstop.why.words import chain, folded, rests_on, slices, value

MOVES_NO_NUMBER = "it tells what lies there"
MOST = 12
"""Records that are shown without `--all`."""


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
        yield Text(f"  rests on: {rests_on(answer)}")
        if answer.records:
            yield Text()
            yield _records(answer, None if self.everything else MOST)
            if not self.everything and len(answer.records) > MOST:
                yield Text(f"... and {len(answer.records) - MOST} more records; --all shows them")
        yield Text()
        if self.everything:
            yield from self._each_run()
            return
        yield from (Text(line, overflow="fold") for line in folded(answer))
        if answer.runs:
            yield Text("--all shows each run with its configuration, data, code and log")

    def _each_run(self) -> Iterator[RenderableType]:
        for (study, run), found in self.answer.runs.items():
            yield Text(f"{study}/{run}", style="bold", overflow="fold")
            yield from (Text(f"  {line}", overflow="fold") for line in chain(found))


def _records(answer: Answer, most: int | None) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("run", "part", "metric", "slice"):
        table.add_column(heading, overflow="fold")
    for heading in ("value", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in answer.records[:most]:
        cells = (record["run"], record["part"], record["metric"], slices(record), value(record), str(record["n"]))
        table.add_row(*(Text(cell) for cell in cells))
    return table
