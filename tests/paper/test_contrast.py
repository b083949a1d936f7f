"""Use of context in the paper: values by hand out of records, and what the figure draws."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from paper.made_up import close, made_up

from ripstop.config import ConfigError
from ripstop.paper import contrast, plots, style
from ripstop.paper.select import StudyRecords
from ripstop.records import Record, frame

ARMS = {"none": {"ratio": "0"}, "all": {"ratio": "all"}}
ACCURACY = {"own": 0.8, "wrong": 0.3, "none": 0.4, "shuffled": 0.5}
DISTANCES = ("all", "0", "1", ">1", ">0")
SHIFT = {"all": 0.0, "0": 0.1, "1": -0.1, ">1": -0.2, ">0": -0.15}


def rows() -> Iterator[Record]:
    """Two seeds of two arms: seed 1 is right 0.02 more often, the second arm 0.1 less often."""
    for factors in ARMS.values():
        for seed in (0, 1):
            for distance in DISTANCES:
                for context, value in ACCURACY.items():
                    for gender, more in (("m", 0.0), ("f", 0.05), ("n", 0.1), ("balanced", 0.05)):
                        shown = value + SHIFT[distance] / 2 + more + 0.02 * seed - 0.1 * (factors["ratio"] == "all")
                        place = {"context": context, "distance": distance, "gender": gender}
                        yield made_up("s", factors, seed, "pronoun_accuracy", shown, **place)
                for gender, level in (("all", 0.2), ("balanced", 1 / 3 + SHIFT[distance])):
                    yield made_up("s", factors, seed, "always_es_accuracy", level, distance=distance, gender=gender)
            for context, loss in (("none", 3.0), ("own", 2.9 - 0.02 * seed), ("wrong", 3.1)):
                yield made_up("s", factors, seed, "context_loss", loss, context=context)


@pytest.fixture(scope="module")
def records() -> StudyRecords:
    return StudyRecords("s", frame(rows()))


def test_values_by_hand(records: StudyRecords) -> None:
    arm = ARMS["none"]
    assert close(contrast.accuracy(records, "own", arm), 0.86, 0.85, 0.87)
    assert close(contrast.accuracy(records, "own", arm, ">1", "m"), 0.71, 0.7, 0.72)
    assert close(contrast.pronoun_gain(records, arm), 0.4, 0.4, 0.4)
    assert close(contrast.pronoun_gain(records, arm, "0", "wrong"), 0.5, 0.5, 0.5)
    assert close(contrast.cxmi(records, arm), 0.11, 0.1, 0.12)
    assert close(contrast.cxmi(records, arm, "wrong"), -0.1, -0.1, -0.1)
    assert contrast.cxmi(records, arm).unit == "nats" and contrast.pronoun_gain(records, arm).unit == "fraction"
    assert contrast.always_es(records) == pytest.approx(1 / 3) and contrast.always_es(records, "0", "all") == 0.2


def test_groups_by_distance_are_in_order_and_do_not_overlap(records: StudyRecords) -> None:
    assert contrast.distances(records) == ["0", "1", ">1"]
    told = {"gender": contrast.BALANCED}
    found = [made_up("s", ARMS["none"], 0, "pronoun_accuracy", 0.5, distance=d, **told) for d in ("10", "2", ">10", ">0")]
    more = StudyRecords("s", frame(found))
    assert contrast.distances(more) == ["2", "10", ">10"]


def test_what_the_figure_draws(records: StudyRecords) -> None:
    with style.style():
        figure = contrast.figure(records, ARMS, ARMS["all"])
    by_arm, by_distance, by_gender = figure.axes
    labels = list(contrast.LINES.values())
    for ax, places in ((by_arm, ["none", "all"]), (by_distance, ["0", "1", ">1"]), (by_gender, ["er", "sie", "es"])):
        assert [tick.get_text() for tick in ax.get_xticklabels()] == places
        assert list(dict.fromkeys(point.label for point in plots.curves(ax))) == labels
    assert [point.y for point in plots.curves(by_arm) if point.label == "own context"] == pytest.approx([0.785, 0.685])
    assert [point.y for point in plots.curves(by_distance) if point.label == "sentence alone"] == pytest.approx(
        [0.41, 0.31, 0.26]
    )
    assert [point.y for point in plots.curves(by_gender) if point.label == "wrong document"] == pytest.approx(
        [0.21, 0.26, 0.31]
    )
    dashed = [line.get_ydata().tolist() for line in by_distance.get_lines() if line.get_label() == "always es"]
    assert dashed == [pytest.approx([1 / 3 + 0.1, 1 / 3 - 0.1, 1 / 3 - 0.2])]
    assert [text.get_text() for text in by_arm.texts] == ["always es"]
    assert [text.get_text() for text in by_distance.get_legend().get_texts()] == [*labels, "always es"]


def test_what_is_named_and_not_there_is_an_error(records: StudyRecords) -> None:
    with pytest.raises(ConfigError, match="ratio '1_7'"):
        contrast.accuracy(records, "own", {"ratio": "1_7"})


def test_a_part_that_was_dropped_gives_nothing() -> None:
    told = {"pronoun_accuracy": "pronouns", "always_es_accuracy": "pronouns", "context_loss": "context"}
    table = frame(row for row in rows() if row.metric == "context_loss")
    table[["distance", "gender"]] = None
    records = StudyRecords("s", table, frozenset({("part", "pronouns")}), told)
    assert contrast.distances(records) == [] and contrast.always_es(records) is None


def test_a_distance_without_items_of_every_gender_is_not_drawn(records: StudyRecords) -> None:
    table = records.table[~((records.table["distance"] == ">1") & (records.table["gender"] == contrast.BALANCED))]
    assert contrast.distances(StudyRecords("s", table)) == ["0", "1"]
