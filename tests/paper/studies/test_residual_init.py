"""residual_init: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop.config import ConfigError
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.residual_init import NUMBERS, figures, numbers, tables
from ripstop.records import Record

CHANCE = 0.125
RECALL = {
    (1, "depth"): (0.50, 0.60),
    (1, "plain"): (0.50, 0.62),
    (2, "depth"): (0.40, 0.60),
    (2, "plain"): (0.55, 0.70),
    (4, "depth"): (0.30, 0.40),
    (4, "plain"): (0.28, 0.35),
    (16, "depth"): (0.10, 0.30),
    (16, "plain"): (0.30, 0.40),
}
"""(depth, start) -> own recall by seed, a mean over 4 and 8 pairs, which have 0.1 more and less. Seed by seed, plain minus
depth is 0 and 0.02 at depth 1, 0.15 and 0.1 at 2, -0.02 and -0.05 at 4, 0.2 and 0.1 at 16."""
LABELS = {"depth": "divided by the root of the number of terms", "plain": "as drawn"}
STILL_LEARNS = (2, "plain")


def made(seeds: tuple[int, ...] = (1, 0)) -> list[Record]:
    records = []
    for (depth, start), by_seed in RECALL.items():
        for seed in seeds:
            factors = {"depth": depth, "start": start}

            def add(metric: str, value: float, factors: dict = factors, seed: int = seed, **slice_: object) -> None:
                records.append(made_up("residual_init", factors, seed, metric, value, **slice_))

            for n, more in ((8, -0.1), (4, 0.1)):
                add("accuracy", by_seed[seed] + more, num_pairs=n, control="own")
            add("chance", CHANCE)
            for step, value in ((40, 0.3), (50, 0.4 if (depth, start) == STILL_LEARNS else 0.3)):
                add("held_out_accuracy", value, step=step)
            add("chosen", depth / 100 + (start == "plain") / 1000, setting="training.lr")
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("residual_init", made())


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    # an interval of two seeds is their range, which at depth 1 begins at 0
    exact = {"depths_plain_better": 2, "depths_depth_better": 1, "n_depths": 4}
    for name, value in exact.items():
        estimate = found[name]
        assert (estimate.value, estimate.low, estimate.high, estimate.n, estimate.unit) == (value, value, value, 2, "depths")
    assert close(found["gain_shallowest"], 0.01, 0.0, 0.02)
    assert close(found["gain_deepest"], 0.15, 0.1, 0.2)
    assert {found[name].unit for name in ("gain_shallowest", "gain_deepest", "chance")} == {"fraction"}
    assert (found["chance"].value, found["n_runs"].value) == (CHANCE, 16)


def test_one_seed_says_nothing_of_which_start_is_better():
    found = numbers(asked("residual_init", made(seeds=(1,))))
    for name in ("depths_plain_better", "depths_depth_better"):
        assert math.isnan(found[name].value) and found[name].n == 1 and found[name].unit == "depths"
    assert found["gain_deepest"].value == pytest.approx(0.1) and found["n_depths"].value == 4


def test_every_cell(records):
    (name, table), *more = tables(records).items()
    assert (name, more) == ("residual_init", [])
    assert list(table.header) == ["layers", "output projections", "recall", "gain", "learning rate"]
    assert "Not converged" in " ".join(table.notes)
    for ((depth, start), by_seed), row in zip(RECALL.items(), table.rows, strict=True):
        label = LABELS[start] + " (not converged)" * ((depth, start) == STILL_LEARNS)
        assert list(row[:2]) == [depth, label]
        assert close(row[2], sum(by_seed) / 2, *by_seed), row
        assert row[4] == depth / 100 + (start == "plain") / 1000
        if start == "depth":
            assert row[3] == ""
        else:
            gains = [plain - divided for plain, divided in zip(by_seed, RECALL[depth, "depth"], strict=True)]
            assert close(row[3], sum(gains) / 2, min(gains), max(gains)), row


def test_every_point(records):
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("residual_init", [])
    assert [ax.get_title() for ax in figure.axes] == ["1 layer", "2 layers", "4 layers", "16 layers"]
    for ax, depth in zip(figure.axes, (1, 2, 4, 16), strict=True):
        lines = [line for line in ax.get_lines() if len(set(line.get_ydata())) > 1]
        for line, start in zip(lines, LABELS, strict=True):
            mean = sum(RECALL[depth, start]) / 2
            assert list(line.get_xdata()) == [4, 8]
            assert list(line.get_ydata()) == pytest.approx([mean + 0.1, mean - 0.1])
        assert len({line.get_color() for line in lines}) == 2
        assert [CHANCE, CHANCE] in [list(line.get_ydata()) for line in ax.get_lines()]
    assert [label for label, *_ in spots(figure.axes[0])] == [LABELS["depth"]] * 2 + [LABELS["plain"]] * 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(LABELS.values())


def test_a_dropped_learning_curve_marks_nothing():
    kept = [r for r in made() if r.part != "learning_curve"]
    records = asked("residual_init", kept, ("part", "learning_curve"))
    assert not [name for name, estimate in numbers(records).items() if estimate.n == 0]
    rows = tables(records)["residual_init"].rows
    assert [row[1] for row in rows] == list(LABELS.values()) * 4 and {row[4] for row in rows} == {None}
    with pytest.raises(ConfigError, match="names metric 'held_out_accuracy', which no record has.*part=learning_curve"):
        tables(asked("residual_init", kept))


def test_seeds_are_paired():
    rows = [r for r in made() if (r.factors["start"], r.seed) != ("plain", 1)]
    with pytest.raises(ConfigError, match=r"paired values need the same seeds, not \[0\] and \[0, 1\]"):
        numbers(asked("residual_init", rows))
