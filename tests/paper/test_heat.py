"""Heat maps: cells where they belong, digits that are the values, nothing where nothing was measured."""

from __future__ import annotations

import math

import numpy as np

from ripstop.paper import style
from ripstop.paper.heat import MOST_DIGITS, heat_map


def test_cells_and_digits() -> None:
    with style.style():
        ax = style.figure().subplots()
        image = heat_map(ax, [[0.0, 0.254], [1.0, math.nan]], ["a", "b"], ["0", "1"])
    assert image.get_array().filled(-1).tolist() == [[0.0, 0.254], [1.0, -1]]
    assert image.get_clim() == (0, 1)
    told = {tuple(text.get_position()): (text.get_text(), text.get_color()) for text in ax.texts}
    assert told == {(0, 0): (".00", "white"), (1, 0): (".25", "white"), (0, 1): ("1.00", "black")}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    assert ax.get_ylim() == (1.5, -0.5)  # the first row on top


def test_many_cells_have_no_digits() -> None:
    with style.style():
        ax = style.figure().subplots()
        heat_map(ax, np.zeros((MOST_DIGITS + 1, 1)), ["a"], [""] * (MOST_DIGITS + 1))
        assert not ax.texts
        heat_map(ax, np.zeros((2, 2)), ["a", "b"], ["0", "1"], digits=False)
        assert not ax.texts
