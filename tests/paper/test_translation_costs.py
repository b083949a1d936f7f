"""The cost of translations in the paper: sweeps out of records, who is worse where, and what the figures draw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from paper.made_up import made_up, spots

from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.translation_costs import FIRST, MEMORY, RATE, SHIFT, TranslationCosts, figures, worse
from ripstop.records import Record, frame
from ripstop.statistics import Estimate

ARMS = {"attention": {"ratio": "all"}, "hybrid": {"ratio": "1_3"}}
POINTS = [(64, 32, 1), (512, 32, 1), (4096, 32, 1), (64, 128, 1), (64, 32, 8)]


def rate(ratio: str, source: int, target: int, batch: int) -> float:
    """Attention is faster at short sources and slower at long ones."""
    return batch * (1000 - source / 8 if ratio == "all" else 800 - source / 64) - target


def rows() -> Iterator[Record]:
    for factors in ARMS.values():
        for source, target, batch in POINTS:
            place = {"source": source, "target": target, "batch": batch}
            yield made_up("s", factors, 0, MEMORY, 1000 * source * batch + target, **place)
            for turn in range(1, 7):
                value = rate(str(factors["ratio"]), source, target, batch)
                for metric, values in ((RATE, (value + turn, 100.0 * turn)), (FIRST, (source / 64 + turn / 100, 2.0))):
                    for prefix, shown in zip(("", "reference_"), values, strict=True):
                        yield made_up("s", factors, 0, prefix + metric, shown, **place, turn=turn)
                for prefix in ("", "reference_"):
                    yield made_up("s", factors, 0, f"{prefix}inter_token_seconds", 1e-3 * turn, **place, turn=turn)


@pytest.fixture(scope="module")
def cost() -> TranslationCosts:
    return TranslationCosts(StudyRecords("s", frame(rows())))


def test_each_sweep_has_its_points_alone(cost: TranslationCosts) -> None:
    arm = ARMS["attention"]
    assert {sweep: list(cost.curve(RATE, sweep, arm)) for sweep in ("source", "target", "batch")} == {
        "source": [64, 512, 4096],
        "target": [32, 128],
        "batch": [1, 8],
    }
    found = cost.curve(RATE, "source", arm)[512]
    assert (found.value, found.low, found.high, found.n, found.unit) == (904 + 3.5, 905, 910, 6, "tokens/s")
    assert {n: e.value for n, e in cost.curve(MEMORY, "batch", arm).items()} == {1: 64032, 8: 512032}


def test_ratios_are_turn_by_turn(cost: TranslationCosts) -> None:
    """Of 960 + turn to 100 turn: the median lies between those of turns 3 and 4."""
    found = cost.ratios(RATE, "source", ARMS["attention"])[64]
    assert found.value == pytest.approx(((960 + 3) / 300 + (960 + 4) / 400) / 2)
    assert found.high == pytest.approx(961 / 100) and found.low == pytest.approx(966 / 600)


def test_who_is_worse_where(cost: TranslationCosts) -> None:
    hybrid, attention = ARMS["hybrid"], ARMS["attention"]
    assert cost.worse(RATE, "source", hybrid, attention) == [64, 512]
    assert cost.worse(RATE, "source", attention, hybrid) == [4096]
    assert cost.worse(FIRST, "source", hybrid, attention) == []
    low, high, alone = Estimate(1, 0.5, 1.5), Estimate(2, 1.6, 3), Estimate(1.7)
    assert worse("seconds", {1: high}, {1: low}) == [1] and worse("seconds", {1: low}, {1: high}) == []
    assert worse("seconds", {1: alone}, {1: low}) == [1] and worse("seconds", {1: alone}, {1: Estimate(1, 0, 1.8)}) == []
    assert worse(RATE, {1: low}, {1: high}) == [1] and worse(RATE, {1: high}, {1: low}) == []
    assert worse("seconds", {2: high}, {1: low}) == []


def test_what_the_figures_draw() -> None:
    with style.style():
        found = figures(StudyRecords("s", frame(rows())), ARMS, "attention")
    assert {name: len(figure.axes) for name, figure in found.items()} == {"throughput": 3, "latency": 2, "memory": 3}
    by_source = found["throughput"].axes[0]
    assert by_source.get_xscale() == by_source.get_yscale() == "log"
    drawn = [(x, y) for label, x, y in spots(by_source) if label == "hybrid"]
    assert [x / SHIFT**0.5 for x, _ in drawn] == pytest.approx([64, 512, 4096]) and drawn[0][1] == pytest.approx(767 + 3.5)
    open_ = [line.get_xdata().tolist() for line in by_source.get_lines() if line.get_markerfacecolor() == "white"]
    assert open_ == [[], pytest.approx([64 * SHIFT**0.5, 512 * SHIFT**0.5])]
    assert [text.get_text() for text in by_source.get_legend().get_texts()] == ["attention", "hybrid"]
    for ax in (ax for figure in found.values() for ax in figure.axes):
        low, high = ax.get_ylim()
        said = [
            label.get_text() for tick, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True) if low <= tick <= high
        ]
        assert len(said) > 1 and all(said), ax.get_title()  # however short an axis is, it says where it is
    assert [ax.get_title() for ax in found["latency"].axes] == ["seconds to the first token", "seconds a further token"]
