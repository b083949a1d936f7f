"""Curves in a terminal: eight dots a character (Unicode's braille), or asterisks where there is ASCII alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOVES_NO_NUMBER = "it draws"

Points = Sequence[tuple[float, float]]
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a braille character by row and column of its dot, from the top left (Unicode, chapter 21.1)."""


@dataclass(frozen=True)
class Axes:
    """What a picture's corners stand for. Points: (x, y) with x from `left` to `right`, y from `bottom` to `top`.

    log: heights are of the logarithm, so that what is won late can be seen beside where a training began.
    """

    left: float
    right: float
    bottom: float
    top: float
    log: bool = False

    @classmethod
    def around(cls, *curves: Points) -> Axes:
        """All points and x = 0; never of no width or height. One at least is asked for."""
        xs, ys = zip(*(point for curve in curves for point in curve), strict=True)
        bottom, top = min(ys), max(ys)
        if top - bottom <= 1e-9 * max(abs(top), abs(bottom)):
            pad = abs(top) / 2 or 0.5
            bottom, top = bottom - pad, top + pad
        return cls(0.0, max(1.0, *xs), bottom, top, bottom > 0 and top / bottom > 3)

    def height(self, y: float) -> float:
        """0 at the bottom, 1 at the top."""
        if self.log:
            return math.log(y / self.bottom) / math.log(self.top / self.bottom)
        return (y - self.bottom) / (self.top - self.bottom)

    def at(self, height: float) -> float:
        """The y of a height from 0 to 1."""
        if self.log:
            return self.bottom * (self.top / self.bottom) ** height
        return self.bottom + (self.top - self.bottom) * height


def draw(points: Points, axes: Axes, width: int, height: int, ascii_only: bool = False) -> list[str]:
    """The curve through `points`, as `height` lines of `width` characters, the top one first."""
    columns, rows = (width, height) if ascii_only else (2 * width, 4 * height)
    on = [[False] * columns for _ in range(rows)]
    before: tuple[int, int] | None = None
    for x, y in points:
        dot = place(x, y, axes, columns, rows)
        for column, row in _line(before or dot, dot):
            on[row][column] = True
        before = dot
    if ascii_only:
        return ["".join("*" if dot else " " for dot in line) for line in on]
    return [
        "".join(_braille([on[4 * row + r][2 * column : 2 * column + 2] for r in range(4)]) for column in range(width))
        for row in range(height)
    ]


def place(x: float, y: float, axes: Axes, columns: int, rows: int) -> tuple[int, int]:
    """Column and row, of so many, where a point lies; row 0 is the top."""
    column = (x - axes.left) / (axes.right - axes.left) * (columns - 1)
    row = (1 - axes.height(y)) * (rows - 1)
    return min(columns - 1, max(0, round(column))), min(rows - 1, max(0, round(row)))


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Dots from `start` to `end` without a gap."""
    (x0, y0), (x1, y1) = start, end
    n = max(abs(x1 - x0), abs(y1 - y0)) or 1
    return [(round(x0 + (x1 - x0) * i / n), round(y0 + (y1 - y0) * i / n)) for i in range(n + 1)]


def _braille(dots: Sequence[Sequence[bool]]) -> str:
    bits = sum(DOTS[row][column] for row, pair in enumerate(dots) for column, on in enumerate(pair) if on)
    return chr(0x2800 + bits) if bits else " "


def label(value: float) -> str:
    """A number in at most 8 characters."""
    if value == 0:
        return "0"
    if not 1e-2 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
