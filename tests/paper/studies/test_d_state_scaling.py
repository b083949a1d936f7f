"""d_state_scaling: every number, cell and point from records worked out by hand."""

from __future__ import annotations

import math

import pytest
from paper.made_up import asked, close, made_up, spots

from ripstop import recall_surface
from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.studies.d_state_scaling import NUMBERS, figures, numbers, tables
from ripstop.recall_surface import fit_surface
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
        shape = {"d_state": d_state, "expand": expand, "shape": f"{d_state}x{expand}"}
        factors = shape | {"state_elements": d_state * expand * 32, "steps": steps}
        for seed, capacity in reversed(list(enumerate(by_seed))):
            for n in PAIRS:
                wrong = (arm + 1) / 10 + seed / 100 if (n, steps) == (2, 100) else 0.99
                values = {"own": recall(capacity, n), "wrong": wrong}
                for control, value in values.items():
                    records.append(made_up("d_state_scaling", factors, seed, "accuracy", value, num_pairs=n, control=control))
            records.append(made_up("d_state_scaling", factors, seed, "chance", CHANCE))
            # after 100 steps arm n moved by n / 100 and n / 100 + 0.002; after 10 by a half, which nothing may use
            late = arm / 100 + seed / 500 if steps == 100 else 0.5
            for part, value in ((0.5, 0.1), (0.8, 0.2), (1, 0.2 + late)):
                records.append(made_up("d_state_scaling", factors, seed, "held_out_accuracy", value, step=int(part * steps)))
            records.append(made_up("d_state_scaling", factors, seed, "chosen", d_state / 100, setting="training.lr"))
    return records


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer resamples than the paper's."""
    monkeypatch.setattr(recall_surface, "RESAMPLES", 40)


def points_after_100_steps() -> list[list]:
    """Pairs, elements of the state, own recall and run of every point."""
    rows = [
        (n, d_state * expand * 32, recall(capacity, n), f"{d_state}-{expand}-{seed}")
        for (d_state, expand, steps), by_seed in CAPACITY.items()
        for seed, capacity in enumerate(by_seed)
        for n in PAIRS
        if steps == 100
    ]
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return asked("d_state_scaling", made())


def test_every_number(records):
    found = numbers(records)
    assert set(found) == set(NUMBERS)
    # expand 2 has two values of d_state and expand 1 has one; 100 steps are the longest training
    assert close(found["capacity_at_min_d_state"], 8, 4, 16, rel=1e-3)
    assert close(found["capacity_at_max_d_state"], math.sqrt(16 * 32), 16, 32, rel=1e-3)
    # log2 capacity 2 and 4 at log2 d_state 2, 4 and 5 at 4: each size's curves lie about 3 and 4.5
    of_d_state = found["capacity_exponent_d_state"]
    assert of_d_state.value == pytest.approx(0.75, abs=1e-3)
    assert of_d_state.low < of_d_state.value < of_d_state.high and (of_d_state.n, of_d_state.unit) == (4, "")
    of_state = found["capacity_exponent_total_state"]
    assert of_state.low < of_state.value < of_state.high and (of_state.n, of_state.unit) == (6, "")
    by_hand = fit_surface(*points_after_100_steps(), CHANCE, interval=False)
    assert of_state.value == pytest.approx(by_hand.exponent.value, abs=1e-6)
    residual = found["surface_residual"]
    assert residual.value == residual.low == residual.high == pytest.approx(by_hand.residual)
    assert (residual.n, residual.unit) == (6, "fraction")
    # 2 pairs at d_state 16, capacities 16 and 32
    assert close(found["recall_easiest"], (recall(16, 2) + recall(32, 2)) / 2, recall(16, 2), recall(32, 2))
    # 0.001 is below one in a hundred, 0.011 and 0.021 are not
    assert (found["n_not_converged"].value, found["n_not_converged"].n) == (2, 2)
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
    found_tables = tables(records)
    assert list(found_tables) == ["d_state_scaling", "d_state_scaling_settings"]
    table = found_tables["d_state_scaling"]
    capacities = ["capacity, 10 steps", "capacity, 100 steps"]
    assert list(table.header) == ["d_state", "expand", "state elements", *capacities, "late gain"]
    assert [list(row[:3]) for row in table.rows] == [[4, 1, 128], [4, 2, 256], [16, 2, 1024]]
    cells = [[(c.value, c.low, c.high) for c in row[3:5]] for row in table.rows]
    wanted = [
        [(math.sqrt(32), 4, 8), (8, 8, 8)],
        [(math.sqrt(32), 4, 8), (8, 4, 16)],
        # 4 and a bound at 2, the fewest pairs: at most their geometric mean
        [(math.sqrt(8), -math.inf, 4), (math.sqrt(512), 16, 32)],
    ]
    for found, expected in zip(cells, wanted, strict=True):
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-3)

    for arm, row in enumerate(table.rows):
        assert close(row[5], arm / 100 + 0.001, arm / 100, arm / 100 + 0.002)


def test_every_setting_that_was_chosen(records):
    table = tables(records)["d_state_scaling_settings"]
    assert list(table.header) == ["shape", "learning rate"]
    shapes = ["d_state 4, expand 1", "d_state 4, expand 2", "d_state 16, expand 2"]
    assert [list(row) for row in table.rows] == [[shapes[0], 0.04], [shapes[1], 0.04], [shapes[2], 0.16]]


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
    found = spots(left)
    assert [(label, x) for label, x, _ in found] == [(label, x) for label, x, _ in wanted]
    assert [y for *_, y in found] == pytest.approx([y for *_, y in wanted])
    points = spots(right)
    assert [(label, x) for label, x, _ in points] == [(f"{s} steps", x) for s in (10, 100) for x in (128, 256, 1024)]
    expected = [32**0.5, 32**0.5, 8**0.5, 8, 8, 512**0.5]
    assert [y for *_, y in points] == pytest.approx(expected, rel=1e-3)
    (chance,) = [line for line in left.get_lines() if not line.get_gid()]
    assert list(chance.get_ydata()) == [0.2, 0.2]
    # the joint fit after 100 steps, from the least to the greatest state
    (fitted,) = [line for line in right.get_lines() if line.get_label() == "joint fit"]
    surface = fit_surface(*points_after_100_steps(), CHANCE, interval=False)
    assert list(fitted.get_xdata()) == [128, 256, 1024]
    assert list(fitted.get_ydata()) == pytest.approx([surface.capacity(size) for size in (128, 256, 1024)])
    # the one bound is open and points down
    fills = [line.get_markerfacecolor() for line in right.get_lines() if line.get_gid()]
    assert fills.count("white") == 1 and [t.get_position()[1] for t in right.texts if not t.get_text()] == [-12]
    assert [text.get_text() for text in right.texts if text.get_text()] == ["4, 1", "4, 2", "16, 2"]


def test_what_nothing_can_be_said_of_is_unknown_and_not_missing():
    """One shape, one training, and every curve above half way: it was measured, and says nothing of growth."""
    found = numbers(asked("d_state_scaling", made({(4, 2, 10): (10**6, 10**6)})))
    unknown = ["capacity_exponent_d_state", "capacity_exponent_total_state", "surface_residual", "recall_gain_per_doubling"]
    for name in unknown:
        assert math.isnan(found[name].value) and found[name].n == 2, name
    assert found["longer_training_ratio"].n == 1 or math.isnan(found["longer_training_ratio"].value)
    assert (found["capacity_at_min_d_state"].value, found["capacity_at_min_d_state"].high) == (128, math.inf)


def test_curves_that_never_cross_half_count():
    """Capacity grows with d_state to the power 1; of 2 to 128 tested pairs, those of d_state 1 and 256 lie beyond half."""
    made_of = {(d_state, 2, 10): (d_state, d_state) for d_state in (1, 16, 256)}
    found = numbers(asked("d_state_scaling", made(made_of)))
    assert found["capacity_at_min_d_state"].low == -math.inf and found["capacity_at_max_d_state"].high == math.inf
    for name in ("capacity_exponent_d_state", "capacity_exponent_total_state"):
        assert close_to(found[name], 1), name
        assert found[name].n == 6
    assert found["surface_residual"].value == pytest.approx(0, abs=1e-5)


def close_to(estimate, value):
    return (estimate.value, estimate.low, estimate.high) == pytest.approx((value, value, value), abs=1e-3)


def test_a_dropped_learning_curve_is_not_measured():
    kept = [r for r in made() if r.part != "learning_curve"]
    records = asked("d_state_scaling", kept, ("part", "learning_curve"))
    assert {name for name, estimate in numbers(records).items() if estimate.n == 0} == {"n_not_converged"}
    found = tables(records)
    assert list(found) == ["d_state_scaling", "d_state_scaling_settings"] and {
        row[5].n for row in found["d_state_scaling"].rows
    } == {0}
