"""Plot forms: the same look everywhere, nothing drawn that was not measured, the same bytes for the same figure."""

from __future__ import annotations

import math
import re
import resource
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from ripstop.config import ConfigError
from ripstop.files import write_text
from ripstop.paper import plots, style
from ripstop.statistics import Estimate

NAN, INF = math.nan, math.inf
POINTS = [Estimate(0.9, 0.8, 1.0, 3), Estimate.missing(), Estimate(0.5), Estimate(0.2, 0.1, 0.3, 3)]
DRAW = """
import sys
from pathlib import Path
from ripstop.config import ConfigError
from ripstop.paper import plots, style
from ripstop.statistics import Estimate
with style.style():
    figure = style.figure(columns=1)
    ax = figure.subplots()
    plots.curve_with_interval(ax, [4, 8], [Estimate(0.9, 0.8, 1.0, 3), Estimate(0.5, 0.4, 0.6, 3)], "Mamba-2", style.PLAIN)
    plots.log2_axis(ax, [4, 8], "pairs")
    ax.legend()
    plots.save(figure, Path(sys.argv[1]))
"""


@pytest.fixture
def ax():
    with style.style():
        yield style.figure().subplots()


def test_known_arms_look_the_same_in_every_figure():
    kinds = ["mamba2", "attention", "attention_conv", "sliding_window", "bidirectional", "mla", "nsa", "hybrid"]
    alone = {kind: style.looks([kind])[kind] for kind in kinds}
    assert style.looks([*kinds, "a_new_mixer"]) | alone == style.looks([*kinds, "a_new_mixer"])
    assert len({look.color for look in alone.values()}) == len({look.marker for look in alone.values()}) == len(kinds)
    assert style.looks(["a_new_mixer"])["a_new_mixer"] == style.looks(["a_new_mixer", "mamba2"])["a_new_mixer"]


def test_no_two_arms_look_alike():
    """Any forty new names, in any order, with known ones that share a look between them."""
    names = ["mamba2_attention", "hybrid", "mamba2", *(f"arm_{i}" for i in range(40))]
    found = style.looks(names)
    assert list(found) != names and set(found) == set(names)
    assert len(set(found.values())) == len(names)
    assert style.looks(names[::-1]) == found
    with pytest.raises(ConfigError, match="a figure of 60 arms has more than there are looks for"):
        style.looks([f"arm_{i}" for i in range(60)])


def test_as_many_new_arms_as_there_are_spare_colours_have_one_each():
    for letter in "abcdefgh":
        found = style.looks([f"{letter}{i}" for i in range(6)]).values()
        assert len({look.color for look in found}) == len({look.marker for look in found}) == 6


def test_every_spare_look_is_another():
    assert len(set(style.SPARE)) == len(style.SPARE) == 48
    assert not set(style.SPARE) & set(style.LOOKS.values())


def test_ordered_looks_go_from_dark_to_light():
    shades = [sum(mpl.colors.to_rgb(look.color)) for look in style.ordered(5)]
    assert shades == sorted(shades) and len(style.ordered(1)) == 1 and len(set(style.ordered(12))) == 12


def test_style_ignores_the_reader_and_leaves_no_trace(ax):
    before = mpl.rcParams["font.size"]
    mpl.rcParams["font.size"] = 40
    try:
        with style.style():
            assert mpl.rcParams["font.size"] == 8
        assert mpl.rcParams["font.size"] == 40
    finally:
        mpl.rcParams["font.size"] = before


def test_curve_leaves_gaps_and_draws_no_interval_that_is_unknown(ax):
    plots.curve_with_interval(ax, [4, 8, 16, 32], POINTS, "Mamba-2", style.PLAIN)
    (line,) = ax.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [0.9, NAN, 0.5, 0.2])
    band = ax.collections[0].get_paths()
    heights = {tuple(v) for path in band for v in path.vertices}
    assert {(4.0, 0.8), (4.0, 1.0), (16.0, 0.5), (32.0, 0.1), (32.0, 0.3)} <= heights
    assert plots.curves(ax) == [
        plots.Point("Mamba-2", 4, 0.9, 4, 4, 0.8, 1.0),
        plots.Point("Mamba-2", 16, 0.5, 16, 16, 0.5, 0.5),
        plots.Point("Mamba-2", 32, 0.2, 32, 32, 0.1, 0.3),
    ]


def test_a_bound_is_open_and_points_where_the_value_lies(ax):
    bounds = [Estimate(64, 40, INF, 3), Estimate(4, -INF, 5, 3), Estimate(16, 12, 20, 3), Estimate(NAN, -INF, INF, 3)]
    plots.scatter_with_interval(ax, [128, 16, 64, 32], bounds, "400 steps", style.PLAIN)
    fills = [line.get_markerfacecolor() for line in ax.get_lines() if line.get_gid()]
    assert fills.count("white") == 2
    assert [text.get_position()[1] for text in ax.texts] == [12, -12]
    points = [(p.x, p.x_low, p.x_high, p.y, p.y_low, p.y_high) for p in plots.curves(ax)]
    assert points == [(128, 128, 128, 64, 40, 64), (16, 16, 16, 4, 4, 5), (64, 64, 64, 16, 12, 20)]
    assert len(ax.get_legend_handles_labels()[1]) == 1


def test_a_bound_in_a_row_points_along_the_row(ax):
    bounds = [Estimate(64, 40, INF, 3), Estimate(4, -INF, 5, 3), Estimate(16, 12, 20, 3), Estimate(NAN, -INF, INF, 3)]
    plots.forest(ax, list("abcd"), bounds)
    fills = {line.get_gid(): line.get_markerfacecolor() == "white" for line in ax.get_lines() if line.get_gid()}
    assert fills == {"a": True, "b": True, "c": False}
    assert [text.get_position() for text in ax.texts if not text.get_text()] == [(12, 0), (-12, 0)]
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["unknown"]
    points = [(p.label, p.x, p.x_low, p.x_high, p.y, p.y_low, p.y_high) for p in plots.curves(ax)]
    assert points == [("a", 64, 40, 64, 0, 0, 0), ("b", 4, 4, 5, 1, 1, 1), ("c", 16, 12, 20, 2, 2, 2)]


def test_an_axis_is_named_by_its_label_with_ticks_that_are_words(ax):
    ax.set_title("milliseconds")
    ax.set_xlabel("layers")
    assert (plots.axis_name(ax, "x"), plots.axis_name(ax, "y")) == ("layers", "milliseconds")
    ax.set_ylabel("loss")
    ax.set_xticks([0, 1], ["none", "1:7"])
    assert (plots.axis_name(ax, "x"), plots.axis_name(ax, "y")) == ("layers (0: none, 1: 1:7)", "loss")
    plots.log2_axis(ax, [4, 8], "pairs")
    assert plots.axis_name(ax, "x") == "pairs"


def test_a_fitted_line_is_drawn_where_the_model_says_something(ax):
    plots.fitted_line(ax, [128, 256], [4, NAN], "nothing")
    assert not ax.get_lines()
    plots.fitted_line(ax, [128, 256], [4, 8], "joint fit")
    (line,) = ax.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([128, 256], [4, 8])
    assert ax.get_legend_handles_labels()[1] == ["joint fit"] and plots.curves(ax) == []


def test_forest_puts_the_first_row_on_top_and_says_not_measured(ax):
    plots.forest(ax, ["layer 0", "none"], [Estimate(0.9, 0.8, 1.0, 3), Estimate.missing()])
    plots.reference_line(ax, 0.25, "chance", "x")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["layer 0", "none"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert {text.get_text() for text in ax.texts} == {"not measured", "chance"}
    assert plots.curves(ax) == [plots.Point("layer 0", 0.9, 0, 0.8, 1.0, 0, 0)]
    with pytest.raises(ValueError):
        plots.forest(ax, ["a"], [])


def test_bars_end_where_the_interval_does(ax):
    plots.forest(ax, ["a"], [Estimate(0.9, 0.5, 0.95, 3)])
    plots.scatter_with_interval(ax, [7], [Estimate(4, 3, 8, 3)], "b", style.PLAIN)
    ends = [segment.tolist() for bars in ax.collections for segment in bars.get_segments()]
    assert ends == [[[pytest.approx(0.5), 0], [pytest.approx(0.95), 0]], [[7, 3], [7, 8]]]


def test_log2_ticks_are_the_values_themselves(ax):
    ax.plot([4, 64], [1, 2])
    plots.log2_axis(ax, [64, 4, 16, 4], "pairs")
    ax.figure.draw_without_rendering()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["4", "16", "64"]


def test_two_processes_write_the_same_bytes(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", DRAW, str(tmp_path / "a.pdf")], check=True)
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "b.pdf")])
    exec(DRAW, {})
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "b.pdf", "b.png"]


def test_a_full_disk_is_an_error_of_the_disk(ax, tmp_path):
    """Whatever the writers of figures make of it: no file may grow beyond 4096 bytes."""
    write_text(tmp_path / "f.pdf", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=re.escape(str(tmp_path / "f.pdf"))):
            plots.save(ax.figure, tmp_path / "f.pdf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["f.pdf"] and (tmp_path / "f.pdf").read_text() == "old"
