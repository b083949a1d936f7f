"""Modified Kneser-Ney: the definition written out slowly, values by hand, and a distribution whatever the history."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from ripstop.data.batching import Indices
from ripstop.evaluation import kneser_ney
from ripstop.evaluation.kneser_ney import FALLBACK, KneserNey

PAD, BOS, EOS = 0, 1, 2


def corpus(n: int, vocab_size: int, seed: int = 0) -> list[Indices]:
    """A chain in which a token leans on the one before it, so that n-grams repeat."""
    generator = np.random.default_rng(seed)
    documents = []
    for _ in range(n):
        document = [3]
        for _ in range(int(generator.integers(1, 30))):
            document.append(3 + (document[-1] * 2 + int(generator.geometric(0.5))) % (vocab_size - 3))
        documents.append(np.array([*document, EOS]))
    return documents


class Slow:
    """The module's formulas by dictionaries. A history is never longer than the document and one BOS before it."""

    def __init__(self, documents: list[Indices], order: int, vocab_size: int):
        self.order, self.uniform = order, 1 / (vocab_size - 2)
        raw: list[Counter] = [Counter() for _ in range(order)]
        before: list[defaultdict] = [defaultdict(set) for _ in range(order)]
        for document in documents:
            padded = (BOS, *map(int, document))
            for end in range(1, len(padded)):
                for k in range(order):
                    if end - k >= 0:
                        gram = padded[end - k : end + 1]
                        raw[k][gram] += 1
                        if end - k >= 1:
                            before[k][gram].add(padded[end - k - 1])
        self.counts: list[dict] = []
        for k in range(order):
            own = k == order - 1
            self.counts.append({g: c if own or g[0] == BOS else len(before[k][g]) for g, c in raw[k].items()})
        self.discounts = [self._discounts(counts.values()) for counts in self.counts]

    @staticmethod
    def _discounts(counts: object) -> tuple[float, ...]:
        n1, n2, n3, n4 = (sum(c == n for c in counts) for n in (1, 2, 3, 4))  # type: ignore[attr-defined]
        if not (n1 and n2 and n3 and n4):
            return FALLBACK
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return found if all(0 <= d <= n for n, d in enumerate(found, 1)) else FALLBACK

    def p(self, word: int, history: tuple[int, ...]) -> float:
        k = len(history)
        lower = self.p(word, history[1:]) if k else self.uniform
        following = {g[-1]: c for g, c in self.counts[k].items() if g[:-1] == history}
        total = sum(following.values())
        if not total:
            return lower
        taken = {w: min(self.discounts[k][min(c, 3) - 1], c) for w, c in following.items()}
        return (following.get(word, 0) - taken.get(word, 0)) / total + sum(taken.values()) / total * lower

    def of(self, documents: list[Indices]) -> list[float]:
        found = []
        for document in documents:
            padded = (BOS, *map(int, document))
            found += [self.p(padded[i], padded[max(0, i - self.order + 1) : i]) for i in range(1, len(padded))]
        return found


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(("n", "vocab_size"), [(60, 9), (3, 7)])
def test_it_is_the_definition(order: int, n: int, vocab_size: int) -> None:
    train, held_out = corpus(n, vocab_size), corpus(12, vocab_size, seed=1)
    held_out.append(np.array([vocab_size - 1, vocab_size - 1, 5, EOS]))
    fast = KneserNey(train, order, vocab_size, BOS, never=[PAD]).probabilities(held_out)
    np.testing.assert_allclose(fast, Slow(train, order, vocab_size).of(held_out), rtol=1e-12)


def test_by_hand() -> None:
    """Documents "a" and "a b"; a = 3, b = 4, ids 2 to 4 can follow. Counts are too few, so D = 0.5, 1, 1.5.

    Bigrams: BOS a 2, a EOS 1, a b 1, b EOS 1. Unigrams, by what stands before: a 1 (BOS), EOS 2 (a, b), b 1 (a).
    p(EOS) = (2 - 1)/4 + (1 + 0.5 + 0.5)/4 * 1/3 = 0.25 + 0.5/3; p(EOS | a) = 0.5/2 + 1/2 * p(EOS); p(a | BOS) = 1/2 + 1/2 p(a).
    """
    model = KneserNey([np.array([3, EOS]), np.array([3, 4, EOS])], 2, 5, BOS, never=[PAD])
    two = model.probabilities([np.array([3, EOS]), np.array([4])])
    p_end, p_a, p_b = 0.25 + 0.5 / 3, 0.125 + 0.5 / 3, 0.125 + 0.5 / 3
    np.testing.assert_allclose(two, [0.5 + 0.5 * p_a, 0.25 + 0.5 * p_end, 0.5 * p_b], rtol=1e-12)


def test_every_history_has_a_distribution() -> None:
    train = corpus(40, 10)
    model = KneserNey(train, 4, 10, BOS, never=[PAD])
    for history in ([], [3], [9, 9], [int(t) for t in train[0][:3]], [4, 5, 9, 3]):
        p = [float(model.probabilities([np.array([*history, word])])[-1]) for word in (2, *range(3, 10))]
        assert sum(p) == pytest.approx(1, abs=1e-12) and min(p) > 0


def test_more_order_helps_where_tokens_depend_on_the_last() -> None:
    train, held_out = corpus(400, 20), corpus(40, 20, seed=1)
    models = [KneserNey(train, order, 20, BOS, never=[PAD]) for order in (1, 2, 3)]
    bits = [-float(np.log2(model.probabilities(held_out)).mean()) for model in models]
    assert bits[1] < bits[0] - 1 and abs(bits[2] - bits[1]) < 0.2
    assert bits[0] < math.log2(18)


def test_documents_do_not_see_each_other() -> None:
    train, held_out = corpus(30, 9), corpus(6, 9, seed=1)
    model = KneserNey(train, 4, 9, BOS, never=[PAD])
    whole = model.probabilities(held_out)
    alone = np.concatenate([model.probabilities([document]) for document in held_out])
    np.testing.assert_array_equal(whole, alone)
    turned = KneserNey(train[::-1], 4, 9, BOS, never=[PAD]).probabilities(held_out)
    np.testing.assert_allclose(whole, turned, rtol=1e-12)


def test_discounts_are_bounded() -> None:
    order = kneser_ney._counted(np.arange(8), np.array([1, 1, 1, 2, 2, 3, 4, 7]), np.zeros(8, dtype=np.int64), 1)
    y = 3 / 7
    assert order.discounts == pytest.approx((1 - 2 * y * 2 / 3, 2 - 3 * y * 1 / 2, 3 - 4 * y * 1 / 1))
    assert order.total_H.tolist() == [21]
    taken = 3 * order.discounts[0] + 2 * order.discounts[1] + 3 * order.discounts[2]
    assert order.left_H.tolist() == pytest.approx([taken / 21])
    few = kneser_ney._counted(np.arange(2), np.array([1, 0]), np.zeros(2, dtype=np.int64), 1)
    assert few.discounts == FALLBACK and few.left_H.tolist() == [0.5]
