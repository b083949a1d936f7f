"""Which words of a document a soft prompt has lost: by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ripstop.models.words_lost import TEMPERATURE, candidates, words_lost

TABLE = torch.eye(3)
"""Embeddings of the tokens 3, 5 and 8."""
RARITY = torch.tensor([9.0, 9, 9, 1.0, 9, 0.5, 9, 9, 2.0])
ALIKE = torch.tensor([[2.0, 2, 0]])  # as near to 3 as to 5; its length plays no part


def lost(soft: torch.Tensor, ids: list[int], lead: int = 0) -> float:
    return float(words_lost(soft[None], [torch.tensor(ids)], TABLE[: len(set(ids))], RARITY, lead))


def test_the_candidates_are_the_different_tokens_of_all_documents() -> None:
    assert candidates([torch.tensor([5, 3, 5]), torch.tensor([8, 3])]).tolist() == [3, 5, 8]


def test_by_hand() -> None:
    cosine = math.sqrt(0.5) / TEMPERATURE
    p = math.exp(cosine) / (2 * math.exp(cosine) + 1)
    rest = 1 / (2 * math.exp(cosine) + 1)
    # weights 1, 0.5 and 2 for 3, 5 and 8; a repeated word counts once
    assert lost(ALIKE, [5, 3, 8, 5]) == pytest.approx(-(1.5 * math.log(p) + 2 * math.log(rest)) / 3.5, rel=1e-5)
    # the first two different words twice: 5 and 3
    expected = -(3 * math.log(p) + 2 * math.log(rest)) / 5
    assert lost(ALIKE, [5, 5, 3, 8], lead=2) == pytest.approx(expected, rel=1e-5)


def test_one_vector_that_finds_a_word_is_enough() -> None:
    """The probabilities of the vectors add up."""
    three = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert abs(lost(three, [3, 5, 8])) < 1e-4
    assert lost(ALIKE.expand(2, 3), [3, 5, 8]) == pytest.approx(lost(ALIKE, [3, 5, 8]) - math.log(2), rel=1e-4)
    assert lost(three[:2], [3, 5, 8]) > 1
    assert lost(three[[0, 0, 0]], [3, 5]) > lost(three[[0, 1, 1]], [3, 5])


def test_documents_of_a_batch_keep_their_own_words() -> None:
    soft = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    a, b = torch.tensor([3, 3, 5]), torch.tensor([8, 5])
    both = words_lost(soft, [a, b], TABLE, RARITY, 1)
    swapped = words_lost(soft.flip(0), [b, a], TABLE, RARITY, 1).flip(0)
    torch.testing.assert_close(both, swapped)
