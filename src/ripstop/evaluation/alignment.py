"""Which words of a text and its translation belong together: IBM model 1 both ways, and one link a word.

The model is estimated here, by EM in NumPy over the training data, since the libraries at hand do not serve: eflomal has no
wheels and samples from a seed of its own, systran-align applies probabilities that another program estimates, NLTK's takes
minutes in pure Python, and awesome-align and simalign need weights from a hub. `data/word_alignment.py` is another model for
another use: it goes by place too, and by whole words, and finds candidates for a reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ripstop.evaluation.training_text import WordPair

Indices = NDArray[np.int64]

STEM = 6
"""Letters of a word that count, in lower case: what follows is mostly inflection."""
ITERATIONS = 5
MOST_CELLS = 5_000_000
"""Pairs of words in a window that EM goes over, in all windows: the shortest windows, which say most about each, come first."""
FLOOR = 0.03
"""Least score of a pair that may be linked."""
ALIKE = 0.5
"""Score of two words with one stem that were never seen together: mostly names."""


class Link(NamedTuple):
    """Places of two words that translate each other."""

    source: int
    target: int


def stem(word: str) -> str:
    return word.lower()[:STEM]


@dataclass(frozen=True)
class Lexicon:
    """Which stems translate each other, and how well.

    scores: source stem -> target stem -> sqrt(p(target | source) p(source | target)), of pairs above `FLOOR`.
    """

    scores: dict[str, dict[str, float]]

    @classmethod
    def estimate(cls, pairs: Sequence[WordPair]) -> Lexicon:
        """From human translations, none empty: IBM model 1 (Brown et al. 1993, section 4.1) in both directions."""
        source_ids, source_stems = _numbered([pair.source for pair in pairs])
        target_ids, target_stems = _numbered([pair.target for pair in pairs])
        forward = translation_probabilities(source_ids, target_ids)
        backward = translation_probabilities(target_ids, source_ids)
        scores: dict[str, dict[str, float]] = {}
        for (s, t), p in forward.items():
            score = math.sqrt(p * backward.get((t, s), 0.0))
            if score >= FLOOR:
                scores.setdefault(source_stems[s], {})[target_stems[t]] = score
        return cls(scores)

    def links(self, source: Sequence[str], target: Sequence[str]) -> list[Link]:
        """Competitive linking (Melamed 2000): the best pair first, each word in one link at most; of equal pairs the one
        whose words stand at more nearly the same place."""
        places: dict[str, list[int]] = {}
        for j, word in enumerate(target):
            places.setdefault(stem(word), []).append(j)
        candidates = []
        for i, word in enumerate(source):
            own = stem(word)
            translations = self.scores.get(own, {})
            for other in places.keys() & (translations.keys() | {own}):
                score = max(translations.get(other, 0.0), ALIKE if other == own and len(own) > 2 else 0.0)
                if score:
                    for j in places[other]:
                        apart = abs((i + 0.5) / len(source) - (j + 0.5) / len(target))
                        candidates.append((-score, apart, i, j))
        sources: set[int] = set()
        targets: set[int] = set()
        found = []
        for _, _, i, j in sorted(candidates):
            if i not in sources and j not in targets:
                sources.add(i)
                targets.add(j)
                found.append(Link(i, j))
        return found


def parted(pairs: Iterable[WordPair]) -> tuple[list[WordPair], list[WordPair]]:
    """The windows with the fewest pairs of words, as many as have `MOST_CELLS` together; and the others, in order. Windows
    that are empty on one side are in neither."""
    whole = [pair for pair in pairs if pair.source and pair.target]
    sizes = np.array([len(pair.source) * len(pair.target) for pair in whole])
    by_size = np.argsort(sizes, kind="stable")
    n = int(np.searchsorted(sizes[by_size].cumsum(), MOST_CELLS, "right"))
    chosen = set(by_size[:n].tolist())
    return [whole[i] for i in by_size[:n].tolist()], [pair for i, pair in enumerate(whole) if i not in chosen]


def translation_probabilities(given: Sequence[Indices], explained: Sequence[Indices]) -> dict[tuple[int, int], float]:
    """(word given, word explained) -> p(explained | given), where that is `FLOOR` squared or more.

    given, explained: the numbers of the words of each window. A word may also be explained by none of the given ones, that
    is by NULL, which every window has. E: each explained word is shared among the window's given words and NULL, in
    proportion to p. M: the shares summed by pair, over their sum by given word.
    """
    if not given:
        return {}
    with_null = [np.concatenate([[0], row + 1]) for row in given]
    n_explained = 1 + max(int(row.max()) for row in explained)
    cells = [(g[None, :] * n_explained + e[:, None]).ravel() for g, e in zip(with_null, explained, strict=True)]
    pairs, pair_of_cell = np.unique(np.concatenate(cells), return_inverse=True)
    given_of_pair = pairs // n_explained
    widths = np.concatenate([np.full(len(e), len(g)) for g, e in zip(with_null, explained, strict=True)])
    starts = np.concatenate([[0], widths.cumsum()[:-1]])
    p = np.ones(len(pairs))
    for _ in range(ITERATIONS):
        shares = p[pair_of_cell]
        shares /= np.repeat(np.add.reduceat(shares, starts), widths)
        counts = np.bincount(pair_of_cell, shares, len(pairs))
        p = counts / np.bincount(given_of_pair, counts)[given_of_pair]
    kept = np.flatnonzero((p >= FLOOR**2) & (given_of_pair > 0))
    return {(int(pairs[k]) // n_explained - 1, int(pairs[k]) % n_explained): float(p[k]) for k in kept.tolist()}


def _numbered(texts: Sequence[Sequence[str]]) -> tuple[list[Indices], list[str]]:
    """The stems of each text as numbers, and the stem of each number."""
    numbers: dict[str, int] = {}
    ids = [np.array([numbers.setdefault(stem(word), len(numbers)) for word in text], dtype=np.int64) for text in texts]
    return ids, list(numbers)
