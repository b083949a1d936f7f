"""Which word of one language stands for which of the other: IBM model 2 with a diagonal prior, learnt from the texts alone.

The model of fast_align (Dyer et al. 2013, "A Simple, Fast, and Effective Reparameterization of IBM Model 2"): word j of n
stands for word i of m with a probability proportional to exp(-tension |i / m - j / n|) times how the first is translated into
the second, or for no word with a fixed probability. Its tension is kept fixed here.

It finds words for a reader, so that places count and forms stay apart. `evaluation/alignment.py` is another model for another
use: it judges translations of any order, by stems, with a learnt word for none and one link a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TENSION = 4.0
P_NO_WORD = 0.08
ITERATIONS = 5

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

Words = Sequence[str]


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    >>> words("It's late: „Geh!“")
    ["it's", 'late', 'geh']
    """
    return [word.lower() for word in _WORD.findall(text)]


def spans(text: str) -> list[tuple[int, int]]:
    """Where each of `words` stands in the text: begin and end."""
    return [match.span() for match in _WORD.finditer(text)]


def align_both_ways(pairs: Sequence[tuple[Words, Words]]) -> list[tuple[list[int], list[int]]]:
    """Of each pair (a, b) for every word of b the place of that of a that it stands for, and the other way round."""
    backwards = align([(b, a) for a, b in pairs])
    return list(zip(align(pairs), backwards, strict=True))


def align(pairs: Sequence[tuple[Words, Words]]) -> list[list[int]]:
    """Of each pair (a, b), for every word of b the place of the word of a that it stands for, -1 for none."""
    a_ids, b_ids = _ids([a for a, _ in pairs]), _ids([b for _, b in pairs])
    n_b = 1 + max((int(ids.max()) for ids in b_ids if len(ids)), default=0)
    place, cells, prior = [], [], []
    n_links = 0
    for a, b in zip(a_ids, b_ids, strict=True):
        if len(a) == 0:
            continue
        near = _near(len(a), len(b))
        place.append(np.repeat(np.arange(n_links, n_links + len(b)), len(a)))
        cells.append((a[None, :] * n_b + b[:, None]).ravel())
        prior.append(near.ravel())
        n_links += len(b)
    place_N, prior_N = np.concatenate(place), np.concatenate(prior)
    kinds, kind_N = np.unique(np.concatenate(cells), return_inverse=True)
    a_of_kind = kinds // n_b
    # What no word stands for: a word of b by how often it comes.
    b_place = np.concatenate([b for a, b in zip(a_ids, b_ids, strict=True) if len(a)])
    no_word = P_NO_WORD * (np.bincount(b_place) / len(b_place))[b_place]
    translated = np.full(len(kinds), 1.0 / n_b)
    for _ in range(ITERATIONS):
        weight_N = translated[kind_N] * prior_N
        total = np.bincount(place_N, weight_N, n_links) + no_word
        counts = np.bincount(kind_N, weight_N / total[place_N], len(kinds))
        translated = counts / np.bincount(a_of_kind, counts)[a_of_kind]
    weight_N = translated[kind_N] * prior_N
    return _best(pairs, weight_N, no_word)


def _near(n_a: int, n_b: int) -> NDArray[np.float64]:
    """(n_b, n_a): how likely each place is by itself, each row without what stands for no word."""
    distance = np.abs(np.arange(n_a)[None, :] / n_a - np.arange(n_b)[:, None] / max(n_b, 1))
    near = np.exp(-TENSION * distance)
    return (1 - P_NO_WORD) * near / near.sum(1, keepdims=True)


def _best(pairs: Sequence[tuple[Words, Words]], weight_N: NDArray[np.float64], no_word: NDArray[np.float64]) -> list[list[int]]:
    found: list[list[int]] = []
    at = row = 0
    for a, b in pairs:
        if not a:
            found.append([-1] * len(b))
            continue
        weight = weight_N[at : at + len(a) * len(b)].reshape(len(b), len(a))
        best = weight.argmax(1) if len(b) else np.zeros(0, np.int64)
        none = no_word[row : row + len(b)]
        found.append([int(i) if weight[j, i] > none[j] else -1 for j, i in enumerate(best)])
        at, row = at + len(a) * len(b), row + len(b)
    return found


def _ids(texts: Sequence[Words]) -> list[NDArray[np.int64]]:
    known: dict[str, int] = {}
    return [np.array([known.setdefault(word, len(known)) for word in text], np.int64) for text in texts]
