"""Word problems: a row by hand, products against permutations that are really applied."""

from __future__ import annotations

import itertools
from math import factorial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ripstop.batch import IGNORE
from ripstop.config import ConfigError
from ripstop.data.word_problem import WordProblemConfig, prefix_products


def config(n_things: int) -> WordProblemConfig:
    return WordProblemConfig(n_things=n_things, lengths=[3], test_lengths=[3])


def test_layout_by_hand() -> None:
    """The row of the module's docstring."""
    shown = torch.tensor([[2, 1, 1]])
    for every, targets in ((True, [IGNORE, 7, 9, 7]), (False, [IGNORE, IGNORE, IGNORE, 7])):
        batch = config(3).lay_out(shown, 3, every)
        assert batch.tokens_BT.tolist() == [[1, 7, 6, 6]]
        assert batch.targets_BT.tolist() == [targets]
        assert batch.context_BT is not None and batch.context_BT.tolist() == [[False, True, True, True]]
    assert config(3).n_tokens == 11


def test_two_things_are_parity() -> None:
    words = torch.randint(2, (50, 17), generator=torch.Generator().manual_seed(0))
    assert torch.equal(prefix_products(words, 2), words.cumsum(1) % 2)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_products_are_permutations_applied_one_after_the_other(data: st.DataObject) -> None:
    n_things = data.draw(st.integers(2, 5))
    permutations = list(itertools.permutations(range(n_things)))
    word = data.draw(st.lists(st.integers(0, len(permutations) - 1), min_size=1, max_size=8))
    expected, things = [], list(range(n_things))
    for number in word:
        things = [permutations[number][thing] for thing in things]
        expected.append(permutations.index(tuple(things)))
    assert prefix_products(torch.tensor([word]), n_things).tolist() == [expected]


@pytest.mark.parametrize("n_things", [2, 3, 5])
def test_every_permutation_is_drawn(n_things: int) -> None:
    task = config(n_things)
    assert task.n_answers == factorial(n_things)
    drawn = task.draw(3, 3000, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == set(range(factorial(n_things)))


def test_words_of_swaps() -> None:
    """Of three things: the identity, (1 2), (0 1) and (0 2), of five the identity and ten more."""
    drawn = config(3).replace(swaps=True).draw(3, 500, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == {0, 1, 2, 5}
    task = config(5).replace(swaps=True)
    drawn = task.draw(3, 500, torch.Generator().manual_seed(0))
    assert len(set(drawn.flatten().tolist())) == 11
    assert len(set(prefix_products(task.draw(20, 4000, torch.Generator().manual_seed(0)), 5)[:, -1].tolist())) == 120


@pytest.mark.parametrize("n_things", [1, 7])
def test_a_number_of_things_that_cannot_be(n_things: int) -> None:
    with pytest.raises(ConfigError, match="n_things"):
        WordProblemConfig.parse({"n_things": n_things, "lengths": [3], "test_lengths": [3]}, "data")


def test_a_test_that_may_be_the_beginning_of_a_training_row() -> None:
    with pytest.raises(
        ConfigError, match="test_lengths starts at 7, and rows of 8 are trained on, which may begin as a test does"
    ):
        WordProblemConfig.parse({"n_things": 2, "lengths": [8], "test_lengths": [7, 16]}, "data")
