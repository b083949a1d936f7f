"""Tables as booktabs LaTeX, and as CSV: text is escaped, numbers and estimates are printed by one function."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ripstop.paper.latex import Latex, checked_name, escape, render
from ripstop.paper.numbers import format_estimate, format_number
from ripstop.statistics import Estimate

STACKED_FROM = 5
"""A table with as many columns of estimates has each interval under its value: side by side they would not fit."""
PARAGRAPHS = 1.2
"""Width of all columns of paragraphs, in lines: the table is shrunk with them."""


@dataclass(frozen=True)
class Marked:
    """An estimate with a sign behind its value, such as the dagger of a significant difference."""

    estimate: Estimate
    mark: str


class Paragraph(str):
    """Text of several lines: its column is a share of the page's width, the same for all columns of paragraphs."""


Cell = str | int | float | Estimate | Marked | None
"""None is what the parameters of the scale dropped."""


@dataclass(frozen=True)
class Table:
    """What a study prints; `notes` stand below, a paragraph each."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    notes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                counts = f"{len(row)} cells under {len(self.header)} headings"
                raise ValueError(f"a table has a row of {counts}: {row}")

    def latex(self, name: str) -> str:
        """A `table` environment, shrunk to the line's width where it is wider. `\\ref{tab:<name>}` names it."""
        # \label takes its argument as it stands: an escaped underscore would become part of the name.
        n_estimates = sum(any(isinstance(c, Estimate | Marked) for c in column) for column in zip(*self.rows, strict=True))
        cell = _stacked if n_estimates >= STACKED_FROM else format_cell
        columns = "".join(self._alignments())
        return render(
            "table.tex.j2",
            {
                "columns": Latex(columns or "l" * len(self.header)),
                "header": self.header,
                "rows": [[cell(c) for c in row] for row in self.rows],
                "caption": self.caption,
                "label": checked_name(name, "table"),
                "notes": self.notes,
            },
        )

    def _alignments(self) -> Iterator[str]:
        """Of each column: what holds a number to the right, text to the left, paragraphs in equal shares of `PARAGRAPHS`."""
        columns = list(zip(*self.rows, strict=True))
        wide = [any(isinstance(cell, Paragraph) for cell in column) for column in columns]
        for column, is_wide in zip(columns, wide, strict=True):
            if is_wide:
                yield rf">{{\raggedright\arraybackslash}}p{{{PARAGRAPHS / sum(wide):.3f}\linewidth}}"
            else:
                yield "l" if all(isinstance(cell, str) for cell in column) else "r"

    def csv(self) -> str:
        """The same cells with every digit, for other programs. A column of estimates is followed by the ends of their 95 %
        intervals and the number of runs behind them; what is not measured, or unknown, is empty."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        header, cells = [], []
        for name, column in zip(self.header, columns, strict=True):
            several = any(isinstance(cell, Estimate | Marked) for cell in column)
            header += [name, *(f"{name}, {end}" for end in ("low", "high", "runs"))] if several else [name]
            cells.append([[*_plain(cell, several)] for cell in column])
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([value for cell in row for value in cell] for row in zip(*cells, strict=True))
        return out.getvalue()


def _plain(cell: Cell, several: bool) -> Iterator[str]:
    """The values of a cell in a CSV file: one, or four in a column of estimates."""
    found = cell.estimate if isinstance(cell, Marked) else cell
    if isinstance(found, Estimate):
        yield from (_digits(value) for value in (found.value, found.low, found.high))
        yield str(found.n) if found.n else ""
    else:
        yield _digits(found) if isinstance(found, float) else "" if found is None else str(found)
        yield from [""] * (3 if several else 0)


def _digits(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def table_files(names: Iterable[str]) -> list[str]:
    """The files of tables, below the folder of what is printed."""
    return [f"tables/{name}{ending}" for name in names for ending in (".tex", ".csv")]


def format_cell(cell: Cell) -> str:
    """Plain text of one cell."""
    if isinstance(cell, Marked):
        value, bracket, interval = format_estimate(cell.estimate).partition(" [")
        return f"{value}{cell.mark}{bracket}{interval}"
    if cell is None or isinstance(cell, Estimate):
        return format_estimate(cell)
    if isinstance(cell, float):
        return format_number(cell)
    return str(cell)


def _stacked(cell: Cell) -> str:
    value, bracket, interval = format_cell(cell).partition(" [")
    if not isinstance(cell, Estimate | Marked) or not bracket:
        return format_cell(cell)
    lines = rf"{escape(value)}\\[-2pt]{{\scriptsize {escape('[' + interval)}}}"
    return Latex(rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}")
