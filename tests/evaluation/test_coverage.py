"""Omissions and additions: planted ones are found where they are, and human translations raise almost no alarm."""

from __future__ import annotations

import math
import random

import pytest

from ripstop.evaluation import alignment
from ripstop.evaluation.alignment import Lexicon
from ripstop.evaluation.coverage import Coverage, Side, Stretch, coverage_rates
from ripstop.evaluation.training_text import WordPair
from ripstop.evaluation.translated import Translation

NOUNS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnr"]
TRANSLATIONS = {noun: f"{noun[::-1].upper()}ung" for noun in NOUNS}


def human(n: int, seed: int, length: int = 24) -> list[WordPair]:
    """A language where articles are added and dropped at will, and one noun in eight is rendered by a phrase of its own."""
    generator = random.Random(seed)
    found = []
    for _ in range(n):
        source, target = [], []
        for noun in generator.choices(NOUNS, k=length):
            source += ["the"] * (generator.random() < 0.5) + [noun]
            free = generator.random() < 1 / 8
            target += ["die"] * (generator.random() < 0.5) + ["irgendwie" if free else TRANSLATIONS[noun]]
        found.append(WordPair(source, target))
    return found


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "MOST_CELLS", 400_000)
        return Coverage.estimate(human(700, 1), human(150, 2))


TEST = human(120, 3)


def test_references_raise_almost_no_alarm(coverage: Coverage) -> None:
    alarms = [bool(find(*pair)) for pair in TEST for find in (coverage.omitted, coverage.added)]
    assert sum(alarms) <= 0.08 * len(alarms)


@pytest.mark.parametrize(("n", "least"), [(4, 0.75), (8, 0.95)])
def test_planted_deletions_are_found_where_they_are(coverage: Coverage, n: int, least: float) -> None:
    found = inside = 0
    for pair in TEST:
        source = [word for word in pair.source if word != "the"]
        target = [word for word in pair.target if word != "die"]
        stretches = coverage.omitted(source, target[:10] + target[10 + n :])
        found += bool(stretches)
        inside += any(s.start >= 8 and s.end <= 12 + n for s in stretches)
    # elsewhere only where a noun that was taken out comes again, whose one translation may be linked to either
    assert found >= least * len(TEST) and inside >= 0.75 * found


@pytest.mark.parametrize(("n", "least"), [(5, 0.75), (9, 0.95)])
def test_planted_duplications_are_found_where_they_are(coverage: Coverage, n: int, least: float) -> None:
    """Either of the two copies may be the one that is too many."""
    found = inside = 0
    for pair in TEST:
        source = [word for word in pair.source if word != "the"]
        target = [word for word in pair.target if word != "die"]
        stretches = coverage.added(source, target[: 6 + n] + target[6 : 6 + n] + target[6 + n :])
        found += bool(stretches)
        inside += any(s.start >= 4 and s.end <= 8 + 2 * n for s in stretches)
    assert found >= least * len(TEST) and inside >= 0.9 * found


def test_half_a_text_and_another_text(coverage: Coverage) -> None:
    for pair, other in zip(TEST[:40], TEST[40:80], strict=True):
        assert coverage.omitted(pair.source, pair.target[: len(pair.target) // 2])
        assert coverage.added(pair.source, [*pair.target, *pair.target])
        assert coverage.omitted(pair.source, other.target) and coverage.added(pair.source, other.target)
        assert coverage.omitted(pair.source, [])[0].end - coverage.omitted(pair.source, [])[0].start > 20
        assert coverage.omitted([], pair.target) == coverage.added(pair.source, []) == []


def test_what_is_learnt_of_one_language_is_what_is_learnt_of_it_as_the_other() -> None:
    """Source and target change places, and so do their weights and levels: none is taken from the other's links."""
    training, held_out = human(120, 1), human(40, 2)
    there = Coverage.estimate(training, held_out)
    back = Coverage.estimate(*([WordPair(pair.target, pair.source) for pair in pairs] for pairs in (training, held_out)))
    for one, other in ((there.source, back.target), (there.target, back.source)):
        assert one.seen == other.seen and one.own == other.own and one.other == other.other
        assert one.level == pytest.approx(other.level) and math.isfinite(one.level)
    assert there.source.own != there.target.own and there.source.level != there.target.level  # or nothing is shown


def test_rates_are_shares_of_words_and_of_windows(coverage: Coverage) -> None:
    texts = [(" ".join(pair.source), " ".join(pair.target)) for pair in TEST[:20]]
    translations = [Translation("d", s, "" if i < 5 else t, t) for i, (s, t) in enumerate(texts)]
    found = {(m.metric, m.slice["of"]): m for m in coverage_rates(translations, coverage)}
    human_alarms = found["omission_alarms", "reference"].value
    assert found["omission_alarms", "translation"].value == pytest.approx(5 / 20 + human_alarms, abs=human_alarms)
    left_out = sum(len(s.split()) for s, _ in texts[:5]) / sum(len(s.split()) for s, _ in texts)
    assert found["omission_rate", "translation"].value == pytest.approx(left_out, abs=0.05)
    assert found["omission_rate", "translation"].n == sum(len(s.split()) for s, _ in texts)
    assert found["over_translation_rate", "translation"].n == sum(len(t.split()) for _, t in texts[5:])
    perfect = coverage_rates([Translation("d", s, t, t) for s, t in texts], coverage)
    for m in perfect:  # what is said of the references is of them, whatever was written
        assert (m.value, m.n) == (found[m.metric, "reference"].value, found[m.metric, "reference"].n)
    nothing = list(coverage_rates([Translation("d", "", "", "")], coverage))
    assert {m.value for m in nothing} == {0.0} and {m.n for m in nothing} == {1}


def side(level: float = 1.0) -> Side:
    """`n` has a counterpart 8 times of 10 in its own translation and never in another's, `a` half of the time in both."""
    texts = [["n"] * 10 + ["a"] * 10]
    made = Side.count(texts, [set(range(8)) | set(range(10, 15))], [set(range(10, 15))])
    made.level = level
    return made


def test_weights_by_hand() -> None:
    """Rates are drawn to those of all, 8/22 and 16/22, by two more sightings."""
    own_n, other_n = (2 + 2 * 8 / 22) / 12, (10 + 2 * 16 / 22) / 12
    own_a, other_a = (5 + 2 * 8 / 22) / 12, (5 + 2 * 16 / 22) / 12
    made = side()
    assert made.weight("n", False) == pytest.approx(math.log(other_n / own_n)) and made.weight("n", False) > 1
    assert made.weight("N", True) == pytest.approx(math.log((1 - other_n) / (1 - own_n))) and made.weight("n", True) < -1
    assert made.weight("a", False) == pytest.approx(math.log(other_a / own_a)) and abs(made.weight("a", True)) < 0.2
    assert made.weight("never", False) == pytest.approx(math.log(16 / 8))  # as all words


def test_stretches_end_where_they_weigh_most() -> None:
    text = ["n", "n", "n", "n", "n", "a", "n", "n"]
    made = side()
    alone = made.weight("n", False)
    assert [(s.start, s.end) for s in made.stretches(text, {0, 3, 4, 6, 7})] == [(1, 3), (5, 6)]
    assert made.stretches(text, {0, 3, 4, 5, 6, 7})[0] == Stretch(1, 3, pytest.approx(2 * alone))
    assert made.stretches(text, set(range(8))) == []
    assert [(s.start, s.end) for s in made.stretches(text, {0, 1, 2})] == [(3, 8)]
    assert [(s.start, s.end) for s in made.alarms(text, {0, 3, 4, 6, 7})] == [(1, 3)]
    assert side(math.inf).alarms(text, set()) == []


def test_the_level_is_what_all_but_a_few_stay_below() -> None:
    made = side(0.0)
    texts = [["n"] * (1 + (i == 0)) for i in range(100)]
    made.calibrate(texts, [set()] * 100)
    assert made.level == pytest.approx(made.weight("n", False))
    assert [bool(made.alarms(text, set())) for text in texts] == [True] + [False] * 99
    made.calibrate([], [])
    assert made.level == math.inf


def test_without_text_nothing_is_found() -> None:
    nothing = Coverage.estimate([], [])
    assert nothing.omitted(["a"], ["b"]) == nothing.added(["a"], ["b"]) == []
    assert Lexicon.estimate([]).links(["a"], ["b"]) == []
