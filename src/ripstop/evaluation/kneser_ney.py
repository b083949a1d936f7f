"""An interpolated n-gram model: modified Kneser-Ney (Chen and Goodman 1999, TR-10-98, section 4.1), exact, in numpy.

With c the count of an n-gram, and for every order but the highest the number of different tokens that stand before it (its own
count where it begins a document, since nothing else can stand there),

    p(w | h) = max(c(hw) - D(c(hw)), 0) / sum_v c(hv)  +  gamma(h) p(w | h without its first token)
    D(1) = 1 - 2 Y n2 / n1,  D(2) = 2 - 3 Y n3 / n2,  D(3 and more) = 3 - 4 Y n4 / n3,  Y = n1 / (n1 + 2 n2)

where gamma(h) is what the discounts took, n_i how many n-grams of the order have c = i, and the lowest order is interpolated
with equal chances for all that can be predicted. A history that was never seen leaves the word to the shorter one.

N-grams are known by number: of order k by that of their first k - 1 tokens, and their last token. So an order costs one sort,
and no n-gram is hashed or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ripstop.data.batching import Indices

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where too few n-grams are rare to tell them (Heafield et al. 2013, lmplz --discount_fallback)."""
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """keys_N: of the n-grams, sorted. counts_N: of each. total_H, left_H: of each history, the sum of its counts, and what the
    discounts took of it, as a part of that."""

    keys_N: Indices
    counts_N: Indices
    total_H: Indices
    left_H: Probabilities
    discounts: tuple[float, float, float]


class KneserNey:
    """The model of one order. Those of lower orders inside it are none to stand alone, since they count what stands before."""

    def __init__(self, documents: Sequence[Indices], order: int, vocab_size: int, begin: int, never: Sequence[int] = ()):
        """documents: token ids, the end of a document among them. begin: an id that stands before every document and is never
        predicted; never: others that are not."""
        self._order, self._vocab_size, self._begin = order, vocab_size, begin
        self._n_predicted = vocab_size - len({begin, *never})
        tokens_P = self._padded(documents)
        predicted_P = tokens_P != begin
        numbers: list[Indices] = [np.zeros(len(tokens_P), dtype=np.int64)]  # of the k-gram that ends at each place
        keys, firsts = [], []
        for k in range(order):
            found_N, first_N, number_P = np.unique(self._keys(numbers[k], tokens_P), return_index=True, return_inverse=True)
            keys.append(found_N)
            firsts.append(first_N)
            numbers.append(number_P)
        self._orders: list[_Order] = []
        for k in range(order):
            counts_N = np.bincount(numbers[k + 1], predicted_P, minlength=len(keys[k])).astype(np.int64)
            if k + 1 < order:
                # Of each longer n-gram one place: its last k + 1 tokens are preceded once more by another token.
                longer_M = firsts[k + 1]
                before_N = np.bincount(numbers[k + 1][longer_M], predicted_P[longer_M], minlength=len(keys[k])).astype(np.int64)
                counts_N = np.where(tokens_P[firsts[k] - k] == begin, counts_N, before_N)
            if k:  # a history of more than one `begin` says no more than one
                counts_N[tokens_P[firsts[k] - k + 1] == begin] = 0
            history_N = np.roll(numbers[k], 1)[firsts[k]]
            n_histories = len(keys[k - 1]) if k else 1
            self._orders.append(_counted(keys[k], counts_N, history_N, n_histories))

    def probabilities(self, documents: Sequence[Indices]) -> Probabilities:
        """Of every token of the documents, laid end to end."""
        tokens_P = self._padded(documents)
        asked_P = tokens_P != self._begin
        number_P = np.zeros(len(tokens_P), dtype=np.int64)
        p_P = np.full(len(tokens_P), 1 / self._n_predicted)
        for order in self._orders:
            history_P = np.roll(number_P, 1)
            number_P = _found(order.keys_N, self._keys(number_P, tokens_P))
            number_P[history_P < 0] = -1
            known_P = history_P >= 0
            total_P = np.where(known_P, order.total_H[history_P], 0)
            known_P &= total_P > 0
            count_P = np.where(number_P >= 0, order.counts_N[number_P], 0)
            kept_P = np.maximum(count_P - _discount(count_P, order.discounts), 0)
            p_P = np.where(known_P, kept_P / np.maximum(total_P, 1) + order.left_H[history_P] * p_P, p_P)
        return p_P[asked_P]

    def _padded(self, documents: Sequence[Indices]) -> Indices:
        """All documents, as many `begin` before each as the longest history has, so that none reaches into another."""
        begins = np.full(max(self._order - 1, 1), self._begin, dtype=np.int64)
        return np.concatenate([part for document in documents for part in (begins, document.astype(np.int64))])

    def _keys(self, number_P: Indices, tokens_P: Indices) -> Indices:
        """The k + 1-gram that ends at each place, from the k-gram that ends at the one before."""
        return np.roll(number_P, 1) * self._vocab_size + tokens_P


def _counted(keys_N: Indices, counts_N: Indices, history_N: Indices, n_histories: int) -> _Order:
    n1, n2, n3, n4 = (int((counts_N == n).sum()) for n in (1, 2, 3, 4))
    discounts = FALLBACK
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if not all(0 <= discount <= n for n, discount in enumerate(discounts, 1)):
            discounts = FALLBACK
    total_H = np.bincount(history_N, counts_N, minlength=n_histories).astype(np.int64)
    taken_N = np.minimum(_discount(counts_N, discounts), counts_N)
    left_H = np.bincount(history_N, taken_N, minlength=n_histories) / np.maximum(total_H, 1)
    return _Order(keys_N, counts_N, total_H, left_H, discounts)


def _discount(counts: Indices, discounts: tuple[float, float, float]) -> Probabilities:
    return np.array([0.0, *discounts])[np.minimum(counts, 3)]


def _found(keys_N: Indices, wanted_P: Indices) -> Indices:
    """Where each wanted key stands among the sorted ones; -1 where it does not."""
    place_P = np.minimum(np.searchsorted(keys_N, wanted_P), len(keys_N) - 1)
    return np.where(keys_N[place_P] == wanted_P, place_P, -1)
