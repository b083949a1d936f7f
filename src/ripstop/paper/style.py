"""The look of every figure: one size, one font, and a colour and marker for each arm that no other in it has."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.figure import Figure

from ripstop.config import ConfigError

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
    """Colour and marker of one arm."""

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
    "mamba3": Look("#56B4E9", "<"),
    "gated_delta": Look("#AA3377", "D"),
    "kda": Look("#332288", "v"),
    "mamba2_attention": Look("#CC79A7", "P"),
    "attention_mamba2": Look("#882255", "h"),
    "hybrid": Look("#CC79A7", "P"),
}
PLAIN = LOOKS["mamba2"]
"""Of what has nothing beside it."""
SPARE_COLORS = ("#332288", "#117733", "#AA4499", "#666666", "#999933", "#44AA99")
SPARE_MARKERS = "<>*dHx+1"
SPARE = [Look(SPARE_COLORS[(i + i // 24) % 6], SPARE_MARKERS[i % 8]) for i in range(48)]
"""Every pairing of a spare colour with a spare marker; neighbours differ in both."""


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each of the arms of one figure, no two alike. Known names look the same in every figure.

    Others take a spare look by their name, or the next free one whose colour and marker the fewest others have.
    """
    found: dict[str, Look] = {}
    for name in sorted(set(names), key=lambda name: (name not in LOOKS, name)):
        look, start = LOOKS.get(name), int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(SPARE)
        free = [spare for spare in [*SPARE[start:], *SPARE[:start]] if spare not in found.values()]
        if look is None or look in found.values():
            colors, markers = (Counter(getattr(other, part) for other in found.values()) for part in ("color", "marker"))
            look = min(free, key=lambda spare: (colors[spare.color], markers[spare.marker]), default=None)
        if look is None:
            raise ConfigError(f"a figure of {len(set(names))} arms has more than there are looks for; draw fewer")
        found[name] = look
    return found


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
