"""Behind a number are the records that move it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from paper import made_up

from ripstop.paper import studies
from ripstop.paper.by_heart import by_heart
from ripstop.paper.influence import Influence
from ripstop.paper.probe import Probe
from ripstop.paper.render import load_records
from ripstop.paper.select import StudyRecords
from ripstop.recall_surface import fit_surface
from ripstop.records import Record, frame
from ripstop.rough import is_rough, roughly
from ripstop.statistics import Estimate, difference_interval, fit_logistic, mean_interval

ARMS, SEEDS = ("a", "b", "c"), (0, 1)


def tiny(metrics: Mapping[str, Callable[[int, int, int], float]]) -> StudyRecords:
    """metrics: name -> value by place of the arm, seed and position (1 or 2)."""
    found: list[Record] = [
        made_up.made_up("tiny", {"mixer": arm, "width": 8}, seed, name, value(place, seed, position), position=position)
        for place, arm in enumerate(ARMS)
        for seed in SEEDS
        for name, value in metrics.items()
        for position in (1, 2)
    ]
    return StudyRecords("tiny", frame(found), factors=frozenset({"mixer", "width"}))


def recall(place: int, seed: int, position: int) -> float:
    return 0.5 + place / 10 + seed / 100 - position / 1000


def behind(records: StudyRecords, number: Callable[[StudyRecords], Any]) -> set[tuple[str, int, str, int]]:
    """(arm, seed, metric, position) of the records behind the one number."""
    asked = Influence(records, {})
    found = asked.behind(lambda given: {"n": number(given)})["n"]
    runs = {asked.places.runs[run][1] for run in found.runs}
    kinds = {(kind[2], kind[3]) for kind in (asked.places.kinds[kind] for kind in found.kinds)}
    return {
        (row.mixer, row.seed, row.metric, int(row.position))
        for row in records.table.itertuples()
        if row.run in runs and (row.metric, (("position", int(row.position)),)) in kinds
    }


def of(arms: str, metric: str = "accuracy", positions: tuple[int, ...] = (1,)) -> set[tuple[str, int, str, int]]:
    return {(arm, seed, metric, position) for arm in arms for seed in SEEDS for position in positions}


def picked(records: StudyRecords, arm: str, position: int = 1) -> Any:
    return records.by_seed("accuracy", mixer=arm, position=position)


def by_hand(records: StudyRecords) -> float:
    table = records.table
    return float(table[(table["metric"] == "accuracy") & (table["mixer"] == "b") & (table["position"] == 2)]["value"].sum())


NUMBERS: dict[str, tuple[Callable[[StudyRecords], Any], set[tuple[str, int, str, int]]]] = {
    "mean": (lambda r: r.mean("accuracy", mixer="a", position=1), of("a")),
    "difference": (lambda r: difference_interval(picked(r, "a"), picked(r, "c")), of("ac")),
    "largest of the arms": (lambda r: max(float(picked(r, arm).mean()) for arm in ARMS), of("abc")),
    "smallest of the seeds": (lambda r: float(picked(r, "b").min()), of("b")),
    "count above a level": (lambda r: sum(float(picked(r, arm).mean()) > 0.65 for arm in "ab"), of("ab")),
    "two positions": (lambda r: float((picked(r, "a") - picked(r, "a", 2)).mean()), of("a", positions=(1, 2))),
    "read and not used": (lambda r: (picked(r, "b"), r.mean("accuracy", mixer="a", position=1))[1], of("a")),
    "picked by hand": (by_hand, of("b", positions=(1, 2))),  # read together, the two positions count together
    "the same everywhere": (lambda r: r.constant("loss", position=1), of("abc", "loss")),
    "another difference of equals": (lambda r: float(picked(r, "a").mean()) - float(picked(r, "a").mean() * 1), set()),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_moves_it_and_nothing_else(name: str) -> None:
    number, wanted = NUMBERS[name]
    assert behind(tiny({"accuracy": recall, "loss": lambda *_: 2.0}), number) == wanted


def test_a_bound_is_moved_by_what_would_lift_it() -> None:
    """Every curve lies above half, so that the capacity is a bound: only a large move shows what is behind it."""
    found = behind(tiny({"accuracy": lambda *_: 0.99}), lambda r: max(0.9, float(picked(r, "a").mean())))
    assert found == of("a")


def test_a_setting_is_told_as_one() -> None:
    asked = Influence(tiny({"accuracy": recall}), {})
    found = asked.behind(lambda r: {"n": Estimate.exact(r.factor("width", mixer="a"))})["n"]
    assert found.kinds == () and len(found.runs) == len(ARMS) * len(SEEDS)


def test_what_a_printer_refuses_counts_for_all_that_it_prints() -> None:
    """A check that every value passes is one more thing that each number rests on."""

    def checked(records: StudyRecords) -> dict[str, float]:
        if picked(records, "c").max() > 0.9 or picked(records, "c").min() < 0.5:
            raise ValueError("out of range")
        return {"n": float(picked(records, "a").mean())}

    found = behind(tiny({"accuracy": recall}), lambda records: checked(records)["n"])
    assert found == of("ac")


def test_of_two_studies() -> None:
    mine, other = tiny({"accuracy": recall}), tiny({"loss": recall})
    other = StudyRecords("other", other.table, factors=other.factors)
    asked = Influence(mine, {"other": other})
    found = asked.behind(
        lambda r, other: {"n": float(picked(r, "a").mean()) + other.by_seed("loss", mixer="b", position=2).mean()}
    )
    runs = {asked.places.runs[run] for run in found["n"].runs}
    assert {study for study, _ in runs} == {"tiny", "other"}
    assert {kind[2] for kind in (asked.places.kinds[k] for k in found["n"].kinds)} == {"accuracy", "loss"}


def test_figures_by_what_was_read_for_them() -> None:
    asked = Influence(tiny({"accuracy": recall, "loss": recall}), {})

    def drawn(records: StudyRecords) -> dict[str, list[float]]:
        losses = records.by_seed("loss", mixer="b", position=2)
        return {"one": picked(records, "a").tolist(), "two": losses.tolist()}

    found = asked.drawn(drawn)
    kinds = {name: [asked.places.kinds[k][2:] for k in of_one.kinds] for name, of_one in found.items()}
    assert kinds == {"one": [("accuracy", (("position", 1),))], "two": [("loss", (("position", 2),))]}
    assert {asked.places.runs[run][1][:7] for run in found["one"].runs} == {"mixer-a"}


ALONE = {"residual_init": 9, "swa_mla": 7, "mqar_cliff": 5}
"""Study -> of how many of its records one is moved alone."""


@pytest.mark.parametrize("study", [pytest.param(s, marks=[pytest.mark.slow] if n < 9 else []) for s, n in ALONE.items()])
def test_nothing_else_moves_a_real_number(study: str, records: Mapping[str, Path]) -> None:
    """One record alone, far up and far down: what it moves has it behind it."""
    mine, printer = load_records(study, records[study]), studies.load(study)
    asked = Influence(mine, {})
    found = asked.behind(printer.numbers)
    probe, table = Probe.of(mine), mine.table
    with roughly():
        before = printer.numbers(probe)
        for place in range(0, len(table), ALONE[study]):
            rows = np.arange(len(table)) == place
            for value in (asked.up[place], asked.down[place]):
                try:
                    with probe.moves.moved(rows, np.where(rows, value, table["value"])):
                        after = printer.numbers(probe)
                except (ValueError, ArithmeticError):
                    continue  # what is refused says nothing of a number
                for name, estimate in before.items():
                    if repr(after[name]) != repr(estimate):
                        of_it = found[name]
                        assert asked.places.run[place] in of_it.runs and asked.places.kind[place] in of_it.kinds, name


def test_what_should_be_the_same_everywhere_is_behind_that_alone() -> None:
    records = tiny({"accuracy": recall, "loss": lambda *_: 2.0})
    asked = Influence(records, {})
    found = asked.behind(lambda r: {"loss": r.constant("loss", position=1), "mean": r.mean("accuracy", mixer="a", position=1)})
    assert {asked.places.kinds[kind][2] for kind in found["mean"].kinds} == {"accuracy"} and len(found["mean"].runs) == 2


def test_it_is_rough_while_it_asks_and_no_longer() -> None:
    asked = []

    def number(records: StudyRecords) -> float:
        asked.append(is_rough())
        return float(picked(records, "a").mean())

    behind(tiny({"accuracy": recall}), number)
    assert all(asked) and len(asked) > 1 and not is_rough()


def test_a_probe_answers_as_the_records_do(records: Mapping[str, Path]) -> None:
    for study in ("swa_mla", "residual_init"):
        mine, printer = load_records(study, records[study]), studies.load(study)
        assert repr(printer.numbers(Probe.of(mine))) == repr(printer.numbers(mine))


def test_it_answers_anew_only_what_rests_on_moved_records() -> None:
    records = tiny({"accuracy": recall})
    probe = Probe.of(records)
    first = picked(probe, "a")
    rows = (records.table["mixer"] == "b").to_numpy(bool)
    with probe.moves.moved(rows, np.zeros(len(rows))):
        again, moved = picked(probe, "a"), picked(probe, "b")
    assert again.equals(first) and moved.tolist() == [0.0, 0.0]
    assert picked(probe, "b").tolist() != [0.0, 0.0]


def test_functions_answer_by_heart_what_rests_on_nothing_that_was_moved() -> None:
    asked = []

    @by_heart
    def mean(records: StudyRecords, arm: str) -> float:
        asked.append(arm)
        return float(picked(records, arm).mean())

    records = tiny({"accuracy": recall})
    probe, rows = Probe.of(records), (records.table["mixer"] == "b").to_numpy(bool)
    before = [mean(probe, arm) for arm in ARMS]
    for value in (0.0, 1.0):
        with probe.moves.moved(rows, np.full(len(rows), value)):
            assert [mean(probe, arm) for arm in ("a", "b", "b", "c")] == [before[0], value, value, before[2]]
    assert [mean(probe, arm) for arm in ARMS] == before
    assert asked == ["a", "b", "c", "b", "b"]
    assert [mean(records, "a") for _ in range(2)] == [before[0]] * 2 and asked[5:] == ["a", "a"]


def test_what_rests_on_an_answer_by_heart_rests_on_its_records() -> None:
    @by_heart
    def mean(records: StudyRecords) -> float:
        return float(picked(records, "a").mean())

    @by_heart
    def twice(records: StudyRecords) -> float:
        return 2 * mean(records)

    records = tiny({"accuracy": recall})
    probe, rows = Probe.of(records), (records.table["mixer"] == "a").to_numpy(bool)
    assert 2 * mean(probe) == twice(probe)
    with probe.moves.moved(rows, np.ones(len(rows))):
        assert twice(probe) == 2.0


def test_kinds_that_are_measured_in_other_runs_are_told_apart() -> None:
    """Only arm c has a third position, so that nobody takes it for one with the two that it is read with."""
    few, more = tiny({"accuracy": recall}), []
    for seed in SEEDS:
        more.append(made_up.made_up("tiny", {"mixer": "c", "width": 8}, seed, "accuracy", 0.7 + seed / 100, position=3))
    records = StudyRecords("tiny", pd.concat([few.table, frame(more)], ignore_index=True), factors=few.factors)

    def third(given: StudyRecords) -> float:
        rows = given.pick("accuracy", mixer="c")
        return float(rows[rows["position"] == 3]["value"].mean())

    assert behind(records, third) == of("c", positions=(3,))


def test_a_rough_interval_is_the_range_of_the_values() -> None:
    with roughly():
        assert mean_interval([1.0, 2.0, 6.0]) == Estimate(3.0, 1.0, 6.0, 3)
    assert mean_interval(np.arange(1.0, 9.0)).low > 1.0


def test_what_is_asked_of_labels_is_no_reading() -> None:
    """Where a printer only asks which arms there are, what was measured of them is behind nothing."""
    probe = Probe.of(tiny({"accuracy": recall}))
    with probe.moves.watch() as read:
        assert probe.values("mixer") == list(ARMS) and "mixer" in probe.labels and probe.n_seeds == 2
        assert probe.factor("width", mixer="a") == 8 and probe.unit("accuracy") == "fraction"
        arm = probe.only(mixer="b")
    assert not read.any()
    with probe.moves.watch() as read:
        assert len(arm.table) == read.sum() == 4


@pytest.mark.parametrize("place", range(4))
def test_every_point_moves_a_rough_capacity(place: int) -> None:
    """A bound says nothing of single points, the whole curve is behind it all the same."""
    curve = [0.9, 0.8, 0.4, 0.1]
    moved = [value + 0.01 * (at == place) for at, value in enumerate(curve)]
    with roughly():
        assert fit_logistic([2, 4, 8, 16], curve) != fit_logistic([2, 4, 8, 16], moved)


@pytest.mark.parametrize("place", range(9))
def test_every_point_moves_a_rough_surface(place: int) -> None:
    pairs, sizes = (part.ravel() for part in np.meshgrid([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]))
    values = np.linspace(0.9, 0.1, 9)
    moved = values + 0.01 * (np.arange(9) == place)
    with roughly():
        surfaces = [fit_surface(pairs, sizes, recall, sizes, 0.0) for recall in (values, moved)]
        chance = fit_surface(pairs, sizes, values, sizes, 0.1)
    assert surfaces[0] != surfaces[1] and surfaces[0] != chance
