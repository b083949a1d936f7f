"""Heat maps: a value in each cell, told by its colour and, where there is room, by its digits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

COLORS = "cividis"
"""Rises evenly in lightness, also in grey and under the common forms of colour blindness."""
MOST_DIGITS = 80
"""Cells of a map that has digits."""


def heat_map(ax: Axes, values: ArrayLike, columns: Sequence[str], rows: Sequence[str], digits: bool = True) -> AxesImage:
    """`values[row][column]` from 0 to 1, the first row on top. What was not measured (nan) is grey."""
    cells = np.asarray(values, dtype=np.float64)
    ax.grid(visible=False)
    ax.set_facecolor("0.93")
    image = ax.imshow(np.ma.masked_invalid(cells), cmap=COLORS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    if digits and cells.size <= MOST_DIGITS:
        for (row, column), value in np.ndenumerate(cells):
            if math.isfinite(value):
                color = "white" if value < 0.5 else "black"
                ax.text(column, row, f"{value:.2f}".removeprefix("0"), ha="center", va="center", fontsize=5, color=color)
    return image
