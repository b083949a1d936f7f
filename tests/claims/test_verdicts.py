"""Every verdict by hand, and what a failed control does to it."""

from __future__ import annotations

import math

import pytest
from claims.made_up import CAPACITY, LOSS, NUMBERS, OTHERS, RECALL, claim, estimate

from ripstop.claims.registry import Criterion
from ripstop.claims.verdicts import UNDECIDED, failed_controls, judge, verdicts
from ripstop.config import ConfigError
from ripstop.statistics import Estimate

INF = math.inf


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        ({"above": 0.5}, 0.51, 0.9, "supported"),
        ({"above": 0.5}, 0.5, 0.9, "inconclusive"),
        ({"above": 0.5}, 0.1, 0.49, "refuted"),
        ({"above": 0.5}, 0.1, 0.5, "inconclusive"),
        ({"above": 0.0}, 0.0, 0.0, "inconclusive"),
        ({"below": 0.5}, 0.1, 0.49, "supported"),
        ({"below": 0.5}, 0.51, 0.9, "refuted"),
        ({"below": 0.5}, 0.4, 0.6, "inconclusive"),
        ({"within": [0.8, 1.25]}, 0.8, 1.25, "supported"),
        ({"within": [0.8, 1.25]}, 0.7, 1.2, "inconclusive"),
        ({"within": [0.8, 1.25]}, 0.5, 0.79, "refuted"),
        ({"within": [0.8, 1.25]}, 1.26, 2.0, "refuted"),
        ({"within": [0.8, 1.25]}, 0.5, 2.0, "inconclusive"),
        # a capacity beyond the measured range is open to one side
        ({"above": 32}, 40, INF, "supported"),
        ({"below": 32}, 40, INF, "refuted"),
        ({"within": [8, 32]}, 40, INF, "refuted"),
        ({"above": 32}, 20, INF, "inconclusive"),
        ({"above": 32}, -INF, 4, "refuted"),
        ({"above": 32}, math.nan, math.nan, "inconclusive"),
    ],
)
def test_judge(criterion, low, high, verdict):
    assert judge(Estimate(0.5, low, high, 3), Criterion.parse(criterion, "test")) == verdict


def test_what_was_dropped_is_not_measured():
    assert judge(None, Criterion(above=1)) == "not measured"
    assert judge(Estimate.missing(), Criterion(above=1)) == "not measured"
    assert judge(Estimate.unknown(3), Criterion(above=1)) == "inconclusive"


def test_verdicts_by_scale_and_study():
    given = [claim("a"), claim("b", below=0.5), claim("c", scales=("h100",)), claim("d", LOSS)]
    judged = verdicts(given, NUMBERS, "cpu")
    assert [j.verdict for j in judged] == ["supported", "refuted", "not measured", "not measured"]
    assert [j.at_hand for j in judged] == [True, True, True, False]
    assert [j.estimate is None for j in judged] == [False, False, True, True]


def test_a_number_that_a_study_at_hand_lacks_is_an_error():
    with pytest.raises(ConfigError, match=r"claim 'a': study mqar_cliff has no number 'chance'; there is: recall_hybrid"):
        verdicts([claim("a", "mqar_cliff.chance")], NUMBERS, "cpu")
    # even where the claim does not hold at this scale
    with pytest.raises(ConfigError, match="has no number 'chance'"):
        verdicts([claim("a", "mqar_cliff.chance", scales=("h100",))], NUMBERS, "cpu")


@pytest.mark.parametrize(
    ("measure", "value", "low", "high", "unit"),
    [
        (f"{LOSS} - hybrid_ratio.ratio_spread", 3.0, 2.0, 4.0, "nats"),
        (f"{LOSS} / hybrid_ratio.ratio_spread", 4.0, 3.5 / 1.5, 9.0, ""),
        (f"{CAPACITY} / {LOSS}", 15 / 4, 10 / 4.5, 20 / 3.5, ""),
        (f"{RECALL} - mqar_cliff.recall_hybrid_max_pairs", 0.0, -0.2, 0.2, ""),
        (LOSS, 4.0, 3.5, 4.5, "nats"),
    ],
)
def test_a_claim_may_rest_on_two_numbers(measure, value, low, high, unit):
    (judged,) = verdicts([claim("a", measure, above=1.0)], NUMBERS | OTHERS, "cpu")
    found = judged.estimate
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-12) and found.unit == unit
    assert judged.verdict == ("refuted" if high < 1 else "supported")


def test_a_claim_on_two_studies_needs_both():
    both = claim("a", f"{CAPACITY} / {LOSS}")
    (judged,) = verdicts([both], NUMBERS, "cpu")
    assert (judged.verdict, judged.at_hand) == ("not measured", False)
    with pytest.raises(ConfigError, match="takes a plain number and nats apart; compare what has one unit"):
        verdicts([claim("a", f"{CAPACITY} - {LOSS}")], NUMBERS | OTHERS, "cpu")


def with_control(recall: Estimate | None, **criterion: float) -> list:
    """A control on recall, a claim that needs it, one that does not, and one that needs it and is not measured."""
    numbers = {"mqar_cliff": {"recall_hybrid_max_pairs": recall or Estimate.missing(), "capacity_mamba2": estimate(10, 20)}}
    given = [
        claim("recalls", role="control", **(criterion or {"above": 0.5})),
        claim("needs_it", CAPACITY, needs=("recalls",), above=5),
        claim("free", CAPACITY, above=5),
        claim("away", LOSS, needs=("recalls",), above=5),
    ]
    return verdicts(given, numbers, "cpu")


@pytest.mark.parametrize(
    ("recall", "verdict"),
    [
        (estimate(0.1, 0.2), "refuted"),
        (estimate(0.4, 0.6), "inconclusive"),
        (None, "not measured"),
        (Estimate(0.9), "inconclusive"),
    ],
)
def test_a_claim_is_undecided_where_a_control_that_it_needs_does_not_hold(recall, verdict):
    found = with_control(recall)
    assert [j.verdict for j in found] == [verdict, UNDECIDED, "supported", "not measured"]
    assert found[1].failed == ("recalls",) and found[1].estimate == estimate(10, 20)
    (failed,) = failed_controls(found, "cpu", {"mqar_cliff"})
    assert (failed.control, failed.studies, failed.undecided) == (found[0], ("mqar_cliff",), 1)


def test_nothing_is_left_of_a_control_that_holds():
    found = with_control(estimate(0.6, 0.8))
    assert [j.verdict for j in found] == ["supported", "supported", "supported", "not measured"]
    assert failed_controls(found, "cpu", {"mqar_cliff"}) == []


def test_a_control_fails_only_at_the_scales_and_in_the_studies_that_it_is_meant_for():
    found = with_control(estimate(0.1, 0.2))
    assert failed_controls(found, "smoke", {"mqar_cliff"}) == []
    assert failed_controls(found, "cpu", {"blind_start"}) == []
    (failed,) = failed_controls(found, "cpu", {"mqar_cliff", "hybrid_ratio"})
    assert failed.studies == ("mqar_cliff", "hybrid_ratio"), "also of the claim on another study that needs it"


def test_a_claim_is_at_hand_with_its_controls():
    given = [claim("c", LOSS, role="control"), claim("a", needs=("c",))]
    found = verdicts(given, NUMBERS, "cpu")
    assert [(j.verdict, j.at_hand) for j in found] == [("not measured", False), (UNDECIDED, False)]
    assert [j.verdict for j in verdicts(given, NUMBERS | OTHERS, "cpu")] == ["supported", "supported"]
