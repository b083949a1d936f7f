"""The look of every figure: one size, one font, and the same colour and marker for the same mixer everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.figure import Figure

WIDTHS = {1: 3.4, 2: 6.05}
"""Inches: a bit more than half of the paper's text width, and all of it. Figures are included at their own size."""

RC: Any = {
    # STIX is cut to go with Times, ships with matplotlib and needs no TeX.
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    # Type 42 keeps the text selectable and passes the checks of publishers; the salt makes identifiers repeatable.
    "pdf.fonttype": 42,
    "svg.hashsalt": "ripstop",
    "path.simplify": False,
}


@dataclass(frozen=True)
class Look:
    """Colour and marker of one kind."""

    color: str
    marker: str


# Okabe and Ito's palette, which stays distinct under the common forms of colour blindness. Markers differ as well, so
# that a print in grey can be read.
LOOKS = {
    "mamba2": Look("#0072B2", "o"),
    "attention": Look("#D55E00", "s"),
    "attention_conv": Look("#E69F00", "D"),
    "sliding_window": Look("#009E73", "^"),
    "bidirectional": Look("#56B4E9", "v"),
    "mla": Look("#7A5C00", "p"),
    "nsa": Look("#000000", "X"),
    "mamba2_attention": Look("#CC79A7", "P"),
    "attention_mamba2": Look("#882255", "h"),
    "hybrid": Look("#CC79A7", "P"),
}
LETTERS = {"M": "mamba2", "A": "attention", "C": "attention_conv", "W": "sliding_window", "B": "bidirectional"}
SPARE = [Look(color, marker) for color in ("#332288", "#117733", "#AA4499", "#666666") for marker in "<>*d"]


def look(kind: str) -> Look:
    """Of a mixer's kind or letter (`mamba2`, `M`), or of any other name: the same name always looks the same."""
    known = LOOKS.get(LETTERS.get(kind, kind))
    if known is not None:
        return known
    return SPARE[int(hashlib.sha256(kind.encode()).hexdigest(), 16) % len(SPARE)]


def ordered(n: int) -> list[Look]:
    """Looks of `n` values that have an order, such as d_state: dark to light, readable in grey."""
    colors = [mpl.colors.to_hex(colormaps["viridis"](0.85 * rank / max(n - 1, 1))) for rank in range(n)]
    return [Look(color, "os^DvPXph"[rank % 9]) for rank, color in enumerate(colors)]


@contextmanager
def style() -> Iterator[None]:
    """Everything drawn and saved inside looks like the paper, whatever the reader's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def figure(columns: Literal[1, 2] = 1, height: float = 2.3) -> Figure:
    """An empty figure as wide as `columns` columns; `height` in inches.

    Made without pyplot, so it needs no display and nothing stays behind.
    """
    with style():
        return Figure(figsize=(WIDTHS[columns], height))
