"""d_state_scaling: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math

import pytest
from paper.made_up import asked, close, made_up

from ripstop.paper import plots, style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.d_state_scaling import NUMBERS, figures, numbers, tables
from ripstop.records import Record

CHANCE = 0.2
PAIRS = (2, 8, 32, 128)
CAPACITY = {
    (4, 1, 100): (8, 8),
    (4, 2, 100): (4, 16),
    (16, 2, 100): (16, 32),
    (4, 1, 10): (4, 8),
    (4, 2, 10): (4, 8),
    (16, 2, 10): (4, None),
}
"""(d_state, expand, steps) -> capacity by seed; None: recall stays at 0.3, below half way."""


def recall(capacity: float | None, n: float) -> float:
    return 0.3 if capacity is None else CHANCE + (1 - CHANCE) / (1 + n / capacity)


def made(capacities: dict = CAPACITY) -> list[Record]:
    records = []
    for arm, ((d_state, expand, steps), by_seed) in enumerate(capacities.items()):
        factors = {"d_state": d_state, "expand": expand, "state_elements": d_state * expand * 32, "steps": steps}
        for seed, capacity in reversed(list(enumerate(by_seed))):
            for n in PAIRS:
                wrong = (arm + 1) / 10 + seed / 100 if (n, steps) == (2, 100) else 0.99
                values = {"own": recall(capacity, n), "wrong": wrong}
                for control, value in values.items():
                    records.append(made_up("d_state_scaling", factors, seed, "accuracy", value, num_pairs=n, control=control))
            records.append(made_up("d_state_scaling", factors, seed, "chance", CHANCE))
    return records


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("d_state_scaling", made())


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    # expand 2 has two values of d_state and expand 1 has one; 100 steps are the longest training
    assert close(found["capacity_at_min_d_state"], 8, 4, 16, rel=1e-3)
    assert close(found["capacity_at_max_d_state"], math.sqrt(16 * 32), 16, 32, rel=1e-3)
    # log2 capacity 2 and 4 at log2 d_state 2, 4 and 5 at 4: means 3 and 4.5
    assert found["capacity_exponent_d_state"].value == pytest.approx(0.75, rel=1e-3)
    assert found["capacity_exponent_d_state"].n == 4
    # log2 (elements, capacity): (7, 3) twice, (8, 2), (8, 4), (10, 4), (10, 5) about (25 / 3, 7 / 2): slope 5 / (28 / 3)
    assert found["capacity_exponent_total_state"].value == pytest.approx(15 / 28, rel=1e-3)
    assert found["capacity_exponent_total_state"].n == 6
    # sums of 1 / (1 + n / c) over n = 2, 8, 32, 128 (c = 4: 1.141414, 16: 2, 32: 2.441176), times 0.8 / 4, two doublings
    gains = (2 - 1.1414141414) * 0.2 / 2, (2.4411764706 - 2) * 0.2 / 2
    assert close(found["recall_gain_per_doubling"], sum(gains) / 2, min(gains), max(gains), rel=1e-8)
    # log2 of long over short: seed 0 has 1 (4, 1), 0 (4, 2), 2 (16, 2): mean 1; seed 1 has 0, 1 and a bound: mean 1 / 2
    assert close(found["longer_training_ratio"], 2**0.75, 2**0.5, 2, rel=1e-3)
    assert close(found["control_wrong"], 0.205, 0.20, 0.21)
    assert [found[name].value for name in ("min_d_state", "max_d_state", "n_runs")] == [4, 16, 12]
    units = {name: found[name].unit for name in NUMBERS}
    assert units["capacity_at_min_d_state"] == units["capacity_at_max_d_state"] == "pairs"
    assert units["recall_gain_per_doubling"] == units["control_wrong"] == "fraction"


def test_every_cell(records):
    (name, table), *more = tables(records).items()
    assert (name, more) == ("d_state_scaling", [])
    assert list(table.header) == ["d_state", "expand", "state elements", "capacity, 10 steps", "capacity, 100 steps"]
    assert [list(row[:3]) for row in table.rows] == [[4, 1, 128], [4, 2, 256], [16, 2, 1024]]
    cells = [[(c.value, c.low, c.high) for c in row[3:]] for row in table.rows]
    wanted = [
        [(math.sqrt(32), 4, 8), (8, 8, 8)],
        [(math.sqrt(32), 4, 8), (8, 4, 16)],
        # 4 and a bound at 2, the fewest pairs: at most their geometric mean
        [(math.sqrt(8), -math.inf, 4), (math.sqrt(512), 16, 32)],
    ]
    for found, expected in zip(cells, wanted, strict=True):
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-3)


def test_every_point(records):
    with style.style():
        (name, figure), *more = figures(records).items()
    assert (name, more) == ("d_state_scaling", [])
    left, right = figure.axes
    # after 100 steps, at expand 2
    wanted = [
        (f"d_state {d}", n, (recall(a, n) + recall(b, n)) / 2)
        for d, a, b in ((4, 4, 16), (16, 16, 32))
        for n in PAIRS
    ]  # fmt: skip
    found = plots.curves(left)
    assert [(label, x) for label, x, _ in found] == [(label, x) for label, x, _ in wanted]
    assert [y for *_, y in found] == pytest.approx([y for *_, y in wanted])
    points = plots.curves(right)
    assert [(label, x) for label, x, _ in points] == [(f"{s} steps", x) for s in (10, 100) for x in (128, 256, 1024)]
    expected = [32**0.5, 32**0.5, 8**0.5, 8, 8, 512**0.5]
    assert [y for *_, y in points] == pytest.approx(expected, rel=1e-3)
    (chance,) = [line for line in left.get_lines() if not line.get_gid()]
    assert list(chance.get_ydata()) == [0.2, 0.2]
    # the one bound is open and points down
    fills = [line.get_markerfacecolor() for line in right.get_lines() if line.get_gid()]
    assert fills.count("white") == 1 and [text.get_position()[1] for text in right.texts] == [-12]


def test_what_nothing_can_be_said_of_is_unknown_and_not_missing():
    """One shape, one training, and every curve above half way: it was measured, and says nothing of growth."""
    found = numbers(asked("d_state_scaling", made({(4, 2, 10): (10**6, 10**6)})))
    for name in ("capacity_exponent_d_state", "capacity_exponent_total_state", "recall_gain_per_doubling"):
        assert math.isnan(found[name].value) and found[name].n == 2, name
    assert found["longer_training_ratio"].n == 1 or math.isnan(found["longer_training_ratio"].value)
    assert (found["capacity_at_min_d_state"].value, found["capacity_at_min_d_state"].high) == (128, math.inf)


def test_a_bound_does_not_flatten_the_exponent():
    # log2 (d_state, capacity): (2, 2), (2, 4), (4, 4); the fourth run recalls everything
    found = numbers(asked("d_state_scaling", made({(4, 2, 10): (4, 16), (16, 2, 10): (16, 10**6)})))
    assert found["capacity_exponent_d_state"].value == pytest.approx(0.5, rel=1e-3)
    assert found["capacity_exponent_d_state"].n == found["capacity_exponent_total_state"].n == 3
