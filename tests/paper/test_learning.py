"""What learning curves say: late gains, steps to a level and chosen settings, by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from paper.made_up import asked, close, made_up

from ripstop.config import ConfigError
from ripstop.paper import learning
from ripstop.paper.select import StudyRecords
from ripstop.records import Record

CURVES = {
    "late": ({10: 0.1, 20: 0.2, 30: 0.3, 40: 0.5, 50: 0.7}, {10: 0.1, 20: 0.2, 30: 0.3, 40: 0.6, 50: 0.7}),
    "done": ({10: 0.2, 20: 0.8, 30: 0.9, 40: 0.95, 50: 0.955}, {10: 0.1, 20: 0.7, 30: 0.8, 40: 0.9, 50: 0.91}),
    "worse": ({10: 0.9, 20: 0.9, 30: 0.9, 40: 0.9, 50: 0.7}, {10: 0.9, 20: 0.9, 30: 0.9, 40: 0.9, 50: 0.8}),
}
"""Arm -> held-out accuracy by step, of two seeds."""


def records_of(curves: Mapping[str, tuple[Mapping[int, float], ...]], *dropped: tuple[str, str]) -> StudyRecords:
    made: list[Record] = []
    for arm, by_seed in curves.items():
        for seed, curve in reversed(list(enumerate(by_seed))):
            for step, value in reversed(curve.items()):  # the order of the records says nothing
                made.append(made_up("mqar_cliff", {"architecture": arm}, seed, "held_out_accuracy", value, step=step))
            made.append(made_up("mqar_cliff", {"architecture": arm}, seed, "held_out_loss", 9.0, step=10))
    return asked("mqar_cliff", made, *dropped)


def test_a_late_gain_is_of_the_last_fifth_of_the_steps() -> None:
    """Of 50 steps those from 40 on: not the last tenth, and not the last fifth of the measurements."""
    records = records_of(CURVES)
    assert close(learning.late_gain(records, architecture="late"), 0.15, 0.1, 0.2)
    assert close(learning.late_gain(records, architecture="done"), 0.0075, 0.005, 0.01)
    assert close(learning.late_gain(records, architecture="worse"), -0.15, -0.2, -0.1)
    assert learning.late_gain(records, architecture="late").unit == ""
    assert [learning.still_learns(records, architecture=name) for name in CURVES] == [True, False, True]
    assert learning.mark(records, "L", architecture="late") == "L (not converged)"
    assert learning.mark(records, "D", architecture="done") == "D"
    found = learning.n_not_converged(records, "architecture")
    assert (found.value, found.low, found.high, found.n, found.unit) == (2, 2, 2, 2, "arms")


def test_between_two_measurements_the_last_before_that_fifth_counts() -> None:
    """Four fifths of 45 are 36: the value at 30 is the last before; that at 36 itself would be."""
    curve = {10: 0.1, 20: 0.2, 30: 0.4, 40: 0.6, 45: 0.7}
    assert learning.late_gain(records_of({"a": (curve, curve)}), architecture="a").value == pytest.approx(0.3)
    at = {10: 0.1, 36: 0.5, 45: 0.7}
    assert learning.late_gain(records_of({"a": (at, at)}), architecture="a").value == pytest.approx(0.2)


def test_converged_is_below_one_in_a_hundred() -> None:
    for moved, still in ((0.0078125, False), (0.01171875, True), (-0.01171875, True)):
        curve = {8: 0.5, 10: 0.5 + moved}
        assert learning.still_learns(records_of({"a": (curve, curve)}), architecture="a") == still


def test_one_measurement_says_nothing_of_a_gain() -> None:
    """As where a training is shorter than the distance of two validations: unknown, and no mark."""
    records = records_of({"a": ({20: 0.5}, {10: 0.3, 20: 0.5}), "b": ({10: 0.5, 20: 0.5}, {10: 0.5, 20: 0.5})})
    found = learning.late_gain(records, architecture="a")
    assert math.isnan(found.value) and found.n == 2 and found.low == -math.inf
    assert learning.mark(records, "A", architecture="a") == "A"
    count = learning.n_not_converged(records, "architecture")
    assert math.isnan(count.value) and count.n == 2


def test_steps_to_a_level_lie_on_the_line_between_two_measurements() -> None:
    """From (20, 0.2) to (40, 0.6), 0.3 is a quarter of the way; the second seed has 0.3 at 30 itself."""
    curves = {"a": ({20: 0.2, 40: 0.6, 60: 0.1, 80: 0.9}, {20: 0.2, 30: 0.3, 80: 0.9})}
    found = learning.steps_to(records_of(curves), 0.3, architecture="a")
    assert close(found, math.sqrt(25 * 30), 25, 30) and found.unit == "steps"


def test_a_level_that_is_reached_at_once_is_on_the_line_from_nothing() -> None:
    curves = {"a": ({10: 0.8, 20: 0.9}, {10: 0.8, 20: 0.9})}
    assert close(learning.steps_to(records_of(curves), 0.4, architecture="a"), 5, 5, 5)


def test_a_seed_that_never_reaches_the_level_makes_it_a_bound() -> None:
    """The other seed reaches 0.5 at 20; this one has not at 80: at least their geometric mean."""
    records = records_of({"a": ({20: 0.5, 80: 0.9}, {20: 0.1, 80: 0.4}), "b": ({20: 0.1, 80: 0.4}, {20: 0.1, 80: 0.4})})
    found = learning.steps_to(records, 0.5, architecture="a")
    assert (found.value, found.high) == (pytest.approx(40), math.inf) and found.low == pytest.approx(20)
    none = learning.steps_to(records, 0.5, architecture="b")
    assert (none.value, none.high) == (pytest.approx(80), math.inf)


def test_a_dropped_part_says_nothing_and_marks_nothing() -> None:
    made = [made_up("mqar_cliff", {"architecture": "a"}, seed, "accuracy", 0.5, num_pairs=4) for seed in (0, 1)]
    records = asked("mqar_cliff", made, ("part", "learning_curve"))
    assert learning.late_gain(records, architecture="a").n == 0
    assert learning.steps_to(records, 0.5, architecture="a").n == 0
    assert learning.n_not_converged(records, "architecture").n == 0
    assert learning.mark(records, "A", architecture="a") == "A"
    (table,) = learning.settings(records, "s", "architecture", {}).values()
    assert (list(table.header), table.rows) == (["architecture"], [["a"]]) and "no settings were on offer" in table.caption
    assert learning.chosen(records, "training.lr", architecture="a") is None
    with pytest.raises(ConfigError, match="names metric 'held_out_accuracy', which no record has"):
        learning.mark(asked("mqar_cliff", made), "A", architecture="a")


def chosen_of(choices: Mapping[str, Mapping[str, float]], seeds: int = 2) -> StudyRecords:
    made = [
        made_up("mqar_cliff", {"architecture": arm}, seed, "chosen", value, setting=key)
        for arm, settings in choices.items()
        for seed in range(seeds)
        for key, value in settings.items()
    ]
    return asked("mqar_cliff", made)


def test_a_table_of_what_each_arm_chose() -> None:
    records = chosen_of({name: {"training.lr": n / 100, "model.x": n} for n, name in enumerate(("zebra", "ant", "bee"), 1)})
    tables = learning.settings(records, "mine", "architecture", {"bee": "B", "zebra": "Z", "gone": "G"})
    assert list(tables) == ["mine"]
    assert list(tables["mine"].header) == ["architecture", "model.x", "learning rate"]
    assert [list(row) for row in tables["mine"].rows] == [["B", 3, 0.03], ["Z", 1, 0.01], ["ant", 2, 0.02]]
    assert learning.chosen(records, "training.lr", architecture="ant") == 0.02
    assert learning.chosen(records, "training.clip", architecture="ant") is None


def test_two_choices_of_one_arm_are_an_error() -> None:
    made = [
        made_up("mqar_cliff", {"architecture": "a"}, seed, "chosen", 0.1 * (1 + seed), setting="training.lr") for seed in (0, 1)
    ]
    with pytest.raises(ConfigError, match="chosen where .* needs one value, not 0.1, 0.2"):
        learning.settings(asked("mqar_cliff", made), "s", "architecture", {})
