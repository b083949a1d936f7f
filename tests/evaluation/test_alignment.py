"""Word alignment: probabilities worked out by hand, a dictionary found again, and one link a word."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from ripstop.evaluation import alignment
from ripstop.evaluation.alignment import Lexicon, Link, parted, translation_probabilities
from ripstop.evaluation.training_text import WordPair


def slow(given: list[list[int]], explained: list[list[int]], iterations: int) -> dict[tuple[int, int], float]:
    """IBM model 1 as it is written down: word by word, NULL as word -1."""
    p = {(g, e): 1.0 for gs, es in zip(given, explained, strict=True) for g in [-1, *gs] for e in es}
    for _ in range(iterations):
        counts = dict.fromkeys(p, 0.0)
        for gs, es in zip(given, explained, strict=True):
            for e in es:
                total = sum(p[g, e] for g in [-1, *gs])
                for g in [-1, *gs]:
                    counts[g, e] += p[g, e] / total
        of_given: dict[int, float] = {}
        for (g, _), n in counts.items():
            of_given[g] = of_given.get(g, 0.0) + n
        p = {(g, e): n / of_given[g] for (g, e), n in counts.items()}
    return {pair: value for pair, value in p.items() if pair[0] >= 0}


def arrays(rows: list[list[int]]) -> list[np.ndarray]:
    return [np.array(row) for row in rows]


def test_probabilities_are_those_of_the_slow_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "FLOOR", 0.0)
    generator = random.Random(1)
    given = [[generator.randrange(7) for _ in range(generator.randint(1, 6))] for _ in range(20)]
    explained = [[generator.randrange(9) for _ in range(generator.randint(1, 6))] for _ in range(20)]
    found, wanted = translation_probabilities(arrays(given), arrays(explained)), slow(given, explained, 5)
    assert found.keys() == wanted.keys()
    assert list(found.values()) == pytest.approx([wanted[pair] for pair in found])


def test_one_iteration_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """(a b, x y) and (a, x): a explains 1/3 of x and of y, and 1/2 of the second x."""
    monkeypatch.setattr(alignment, "ITERATIONS", 1)
    found = translation_probabilities(arrays([[0, 1], [0]]), arrays([[0, 1], [0]]))
    a_x, a_y = 1 / 3 + 1 / 2, 1 / 3
    assert found == pytest.approx({(0, 0): a_x / (a_x + a_y), (0, 1): a_y / (a_x + a_y), (1, 0): 1 / 2, (1, 1): 1 / 2})
    assert translation_probabilities([], []) == {}


WORDS = ["ba", "do", "fu", "ga", "ho", "ki", "lo", "mu"]
DICTIONARY = {word: f"{word[::-1]}x" for word in WORDS}


def corpus(n: int, seed: int = 0) -> list[WordPair]:
    """Every word has one translation, in another order."""
    generator = random.Random(seed)
    found = []
    for _ in range(n):
        source = generator.choices(WORDS, k=generator.randint(2, 5))
        target = [DICTIONARY[word] for word in source]
        generator.shuffle(target)
        found.append(WordPair(source, target))
    return found


def test_a_dictionary_is_found_again() -> None:
    scores = Lexicon.estimate(corpus(300)).scores
    assert {word: max(found, key=found.get) for word, found in scores.items()} == DICTIONARY
    assert min(scores[word][translation] for word, translation in DICTIONARY.items()) > 0.6
    assert Lexicon.estimate([]).scores == {}


def test_a_score_is_of_both_directions() -> None:
    """Of each pair the geometric mean of p(target | source) and p(source | target)."""
    pairs = [WordPair(list(s), list(t)) for s, t in (("ab", "xy"), ("a", "x"), ("ac", "xx"), ("bcc", "yz"), ("b", "x"))]
    numbers = {letter: i for i, letter in enumerate("abc")} | {letter: i for i, letter in enumerate("xyz")}
    source, target = ([[numbers[word] for word in pair[k]] for pair in pairs] for k in (0, 1))
    forward, backward = slow(source, target, 5), slow(target, source, 5)
    wanted = {
        s: {t: math.sqrt(forward[i, j] * backward[j, i]) for j, t in enumerate("xyz") if (i, j) in forward}
        for i, s in enumerate("abc")
    }
    wanted = {s: {t: score for t, score in found.items() if score >= alignment.FLOOR} for s, found in wanted.items()}
    found = Lexicon.estimate(pairs).scores
    assert {s: set(scores) for s, scores in found.items()} == {s: set(scores) for s, scores in wanted.items()}
    for s, scores in found.items():
        assert scores == pytest.approx(wanted[s], rel=1e-6)


def test_case_and_endings_do_not_count() -> None:
    lexicon = Lexicon({"believ": {"glaubt": 0.5}})
    assert lexicon.links(["Believed", "BELIEVES"], ["glaubten", "Glaubtet"]) == [Link(0, 0), Link(1, 1)]


def test_each_word_is_linked_once_the_best_pair_first() -> None:
    lexicon = Lexicon({"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.8}})
    assert lexicon.links(["a", "b"], ["x", "y"]) == [Link(0, 0)]  # b finds x taken, y is no translation of it
    assert set(lexicon.links(["a", "a"], ["x", "x", "x"])) == {Link(0, 0), Link(1, 2)}  # at the same place of each
    assert lexicon.links(["b", "a"], ["y", "x"]) == [Link(1, 1)]
    assert lexicon.links([], ["x"]) == lexicon.links(["a"], []) == lexicon.links(["c"], ["x"]) == []


def test_names_are_linked_that_were_never_seen() -> None:
    lexicon = Lexicon({"zion": {"berg": 0.9}})
    assert lexicon.links(["Bildad"], ["bildad"]) == [Link(0, 0)]
    assert lexicon.links(["is"], ["is"]) == []
    assert lexicon.links(["Zion"], ["Zion", "Berg"]) == [Link(0, 1)]


def test_the_shortest_windows_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "MOST_CELLS", 7)
    pairs = [WordPair(["a"] * n, ["b"] * m) for n, m in ((2, 2), (3, 3), (1, 1), (0, 5), (1, 2), (5, 0))]
    taught, rest = parted(pairs)
    assert [(len(p.source), len(p.target)) for p in taught] == [(1, 1), (1, 2), (2, 2)]
    assert [(len(p.source), len(p.target)) for p in rest] == [(3, 3)]
    assert parted([]) == ([], [])
