"""Picking values: what is named and not there is an error that names it and the nearest that is."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from paper.made_up import made_up

from ripstop.config import ConfigError
from ripstop.paper.select import StudyRecords, mean_of, worst_minus_best
from ripstop.records import Record, frame


def record(mixer: str, seed: int, value: float, metric: str = "accuracy", **slice_: object) -> Record:
    return made_up("s", {"mixer": mixer, "d_state": 16}, seed, metric, value, **slice_)


def asked(*records: Record, dropped: tuple = (), parts: dict | None = None) -> StudyRecords:
    return StudyRecords("s", frame(records), frozenset(dropped), parts or {})


BOTH = [record(mixer, seed, v, num_pairs=n, control="own")
        for mixer, seed, v, n in (("a", 1, 0.3, 4), ("a", 0, 0.1, 4), ("b", 0, 0.5, 4), ("b", 1, 0.9, 4), ("a", 0, 0.2, 8),
                                  ("a", 1, 0.2, 8), ("b", 0, 0.4, 8), ("b", 1, 0.6, 8))]  # fmt: skip


def test_values_by_seed_and_averaged():
    records = asked(*BOTH)
    assert records.by_seed("accuracy", mixer="a", num_pairs=4).to_dict() == {0: 0.1, 1: 0.3}
    assert records.mean_by_seed("accuracy", num_pairs=4).to_dict() == pytest.approx({0: 0.3, 1: 0.6})
    found = records.mean("accuracy", mixer="b", num_pairs=8)
    assert (found.value, found.low, found.high, found.n, found.unit) == (0.5, 0.4, 0.6, 2, "fraction")
    assert records.values("num_pairs") == [4, 8] and records.values("mixer") == ["a", "b"]
    assert records.factor("d_state", mixer="a") == 16
    assert (records.n_runs.value, records.n_runs.unit, records.only(mixer="a").n_runs.value) == (4, "runs", 4)


def test_only_chooses_and_remembers_the_rest():
    chosen = asked(*BOTH).only(mixer="a").only(num_pairs=8)
    assert chosen.by_seed("accuracy").to_dict() == {0: 0.2, 1: 0.2}
    with pytest.raises(ConfigError, match="s: no record measures accuracy where mixer is b; evaluate its runs again"):
        chosen.by_seed("accuracy", mixer="b")


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ({"mixer": "aa"}, "names mixer 'aa', which no record has; .*--dropped mixer=aa"),
        (
            {"mixer": "a", "num_pairs": 16},
            "names num_pairs '16', which no record has; there is: 4, 8; .*--dropped num_pairs=16",
        ),
        ({"mixr": "a"}, "no record has a factor or slice 'mixr'; did you mean 'mixer'?"),
        ({"mixer": "a"}, r"accuracy where mixer is a has several values for one seed \(runs .*\); fix one more column"),
    ],
)
def test_what_is_not_there_is_named(where, sentence):
    with pytest.raises(ConfigError, match=f"^s: .*{sentence}"):
        asked(*BOTH).by_seed("accuracy", **where)


def test_a_metric_that_nothing_measures():
    with pytest.raises(ConfigError, match="names metric 'acuracy', which no record has; did you mean 'accuracy'?"):
        asked(*BOTH).pick("acuracy")
    with pytest.raises(ConfigError, match="names metric 'comet'.*; if the parameters .* takes --dropped part=comet"):
        asked(*BOTH, parts={"comet": "comet"}).mean("comet")
    found = asked(*BOTH, dropped=[("part", "comet")], parts={"comet": "comet"}).mean("comet")
    assert (found.n, found.unit) == (0, "score")
    with pytest.raises(ConfigError, match="names metric 'comet'"):
        asked(*BOTH, dropped=[("part", "quality")], parts={"comet": "comet"}).mean("comet")
    with pytest.raises(ConfigError, match="names metric 'loss'"):
        asked(*BOTH, dropped=[("part", "")]).pick("loss")


def test_a_dropped_arm_gives_no_values():
    records = asked(*BOTH, record("a", 0, 0.5, "chance"), dropped=[("mixer", "c"), ("num_pairs", "16")])
    assert records.mean("accuracy", mixer="c").n == 0
    assert records.mean("accuracy", mixer="a", num_pairs=16.0).n == 0
    assert records.factor("d_state", mixer="c") is None and records.constant("accuracy", mixer="c") is None
    assert records.capacities(mixer="c") == {} and records.capacity(mixer="c").n == 0
    records.require({"mixer": ("a", "b", "c")})
    with pytest.raises(ConfigError, match="names mixer 'd'"):
        records.require({"mixer": ("a", "d")})
    with pytest.raises(ConfigError, match="mixer=a is said to be dropped, but has records; collect"):
        asked(*BOTH, dropped=[("mixer", "a")]).require({"mixer": ("a",)})


def test_one_value_or_an_error():
    records = asked(record("a", 0, 0.5, "chance"), record("a", 1, 0.5, "chance"), record("b", 0, 0.25, "chance"))
    assert records.constant("chance", mixer="a") == 0.5
    with pytest.raises(ConfigError, match="chance where nothing is fixed needs one value, not 0.5, 0.25"):
        _ = records.chance
    with pytest.raises(ConfigError, match="d_state where mixer is a needs one value, not 8, 16|16, 8"):
        other = made_up("s", {"mixer": "a", "d_state": 8}, 5, "chance", 0.5)
        asked(record("a", 0, 0.5, "chance"), other).factor("d_state", mixer="a")
    two = asked(record("a", 0, 0.5, "new"), record("b", 0, 1.0, "new").replace(unit="fraction"))
    with pytest.raises(ConfigError, match="new is measured in points and in fraction"):
        two.unit("new")


def test_a_seed_that_lacks_a_run_is_named():
    with pytest.raises(ConfigError, match="accuracy where num_pairs is 4: 2 of seed 0, 1 of seed 1; evaluate the missing runs"):
        asked(*BOTH[1:]).mean_by_seed("accuracy", num_pairs=4)


def test_capacity_is_of_one_curve_weighted_by_its_answers():
    """Recall of 0.9 at 2 pairs, 0.5 at 8 and 0.1 at 32 is symmetric about 8; the control's curve is another."""
    curve = [(2, 0.9), (32, 0.1), (8, 0.5)]
    rows = [record("a", 0, v, num_pairs=n, control="own") for n, v in curve]
    rows += [record("a", 0, 0.9, num_pairs=n, control="wrong") for n, _ in curve]
    records = asked(*rows, record("a", 0, 0.0, "chance"))
    assert records.capacities()[0].value == pytest.approx(8, rel=1e-4)
    assert records.capacity(mixer="a").value == pytest.approx(8, rel=1e-4)
    # chance of 0.25 puts half way at 0.625, which is above the middle point
    above = asked(*rows, record("a", 0, 0.25, "chance")).capacities()[0].value
    assert 4 < above < 8
    heavy = [r.replace(n=10**6) if r.slice["num_pairs"] == 8 else r for r in rows[:3]]
    heavy[2] = heavy[2].replace(value=0.7)
    found = asked(*heavy, record("a", 0, 0.0, "chance")).capacities()[0].value
    # the middle point decides: the curve passes through 0.7 at 8 pairs
    light = asked(*rows[:2], heavy[2].replace(n=1), record("a", 0, 0.0, "chance")).capacities()[0].value
    assert found > light > 8
    two = [record("b", 0, v, num_pairs=n, control="own") for n, v in curve]
    with pytest.raises(ConfigError, match="two recall curves of one seed where nothing is fixed; fix one more column"):
        asked(*rows, *two, record("a", 0, 0.0, "chance")).capacities()


def test_a_family_of_arms():
    records = asked(*BOTH, dropped=[("mixer", "layers_0")])
    assert records.family("mixer", "a") == ["a"]
    assert records.family("mixer", "layers_") == []
    with pytest.raises(ConfigError, match="names mixer 'window_...', which no record has"):
        records.family("mixer", "window_")


def test_several_arms_seed_by_seed():
    a, b, c = pd.Series({0: 1.0, 1: 5.0}), pd.Series({1: 2.0, 0: 4.0}), pd.Series({0: 1.0, 1: 2.0})
    assert worst_minus_best([a, b, c]).to_dict() == {0: 3.0, 1: 3.0}
    assert mean_of([a, b, c]).to_dict() == {0: 2.0, 1: 3.0}
    with pytest.raises(ConfigError, match="the same seeds"):
        mean_of([a, pd.Series({0: 1.0})])
    assert not math.isnan(mean_of([a]).sum())


def test_two_parts_that_measure_the_same_are_told_apart():
    records = asked(*BOTH, *(r.replace(part="sink_off", value=1.0) for r in BOTH))
    with pytest.raises(ConfigError, match="has several values for one seed .*; fix one more column"):
        records.by_seed("accuracy", mixer="a", num_pairs=4)
    assert records.by_seed("accuracy", mixer="a", num_pairs=4, part="sink_off").to_dict() == {0: 1.0, 1: 1.0}
