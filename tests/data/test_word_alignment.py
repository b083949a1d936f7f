"""Word alignment on a language whose dictionary is known, and the rules by which pronouns become candidates."""

from __future__ import annotations

import random

import numpy as np

from ripstop.data import word_alignment
from ripstop.data.hub import Document
from ripstop.data.pronoun_candidates import Candidate, candidates
from ripstop.data.word_alignment import align, align_both_ways, spans, words

DICTIONARY = {f"w{i}": f"v{i}" for i in range(12)}


def test_words_and_their_places() -> None:
    text = "„Nimm's“, sprach er - Geh!"
    assert words(text) == ["nimm's", "sprach", "er", "geh"]
    assert [text[a:b] for a, b in spans(text)] == ["Nimm's", "sprach", "er", "Geh"]


def test_a_dictionary_is_found() -> None:
    """Sentences of words in another order than their translations, with a word beside them that all have."""
    generator = random.Random(0)
    pairs = []
    for _ in range(200):
        a = generator.sample(sorted(DICTIONARY), 5)
        b = [DICTIONARY[word] for word in a]
        b[1], b[2] = b[2], b[1]
        pairs.append((a, [*b, "und"]))
    right = total = 0
    for (a, b), (of_b, of_a) in zip(pairs, align_both_ways(pairs), strict=True):
        right += sum(DICTIONARY[a[i]] == b[j] for j, i in enumerate(of_b[:5]) if i >= 0)
        right += sum(DICTIONARY[a[i]] == b[j] for i, j in enumerate(of_a) if j >= 0)
        total += 10
        assert len(of_b) == 6 and len(of_a) == 5
    assert right > 0.98 * total


def test_what_no_word_explains_better_than_chance_stands_for_none() -> None:
    """Words of b in turn, each with its weight for every word of a, against that of no word."""
    weights, no_word = np.array([0.1, 0.3, 0.02, 0.04, 0.5]), np.array([0.2, 0.05, 0.4])
    assert word_alignment._best([(["a", "a"], ["b", "b"]), (["a"], ["b"])], weights, no_word) == [[1, -1], [0]]


def test_texts_without_words() -> None:
    assert align([([], ["b"]), (["a"], ["b"]), (["a"], [])]) == [[-1], [0], []]


def document(name: str, pairs: list[tuple[str, str]]) -> list[Document]:
    return [Document(name, [en for en, _ in pairs], [de for _, de in pairs])]


def test_candidates() -> None:
    """`it` that finds es, er that finds it or no person; not where er is a person, or outside of the test books."""
    block = [
        ("the stone falls", "der stein fällt"),
        ("he comes now", "er kommt jetzt"),
        ("it rains now", "es regnet jetzt"),
        ("she sings now", "sie singt jetzt"),
        ("the house stands", "das haus steht"),
        ("now he sings", "jetzt singt er"),
    ]
    test = [
        ("It rains.", "Es regnet."),
        ("The stone falls and it stands", "der stein fällt und er steht"),
        ("He sings and it rains", "er singt und es regnet"),
    ]
    splits = {"train": document("Genesis 1", block * 20), "test": document("John 1", test)}
    found = set(candidates(splits))
    assert Candidate("John 1", 1, 0, 0, "es") in found and Candidate("John 1", 2, 4, 4, "er") in found
    assert {c[:2] for c in found} == {("John 1", 1), ("John 1", 2), ("John 1", 3)}
    assert [c.pronoun for c in found if c.verse == 3] == ["es"]
