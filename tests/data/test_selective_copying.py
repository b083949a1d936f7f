"""Selective copying: a row by hand, and values that come back in their order wherever they stand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Generator

from ripstop.batch import IGNORE
from ripstop.config import ConfigError
from ripstop.data.selective_copying import SelectiveCopyingConfig
from ripstop.data.synthetic import ASK, NOISE


def config(n_values: int = 2, n_different: int = 4, length: int = 5) -> SelectiveCopyingConfig:
    return SelectiveCopyingConfig(n_values=n_values, n_different=n_different, lengths=[length], test_lengths=[length])


@pytest.mark.parametrize("every", [True, False])
def test_layout_by_hand(every: bool) -> None:
    """The row of the module's docstring: all answers take the whole row, and are asked in training and test."""
    batch = config().lay_out(torch.tensor([[3, 8, 3, 3, 6]]), 5, every)
    assert batch.tokens_BT.tolist() == [[1, 3, 8, 3, 3, 6, 2, 2]]
    assert batch.targets_BT.tolist() == [[IGNORE] * 6 + [8, 6]]
    assert batch.context_BT is not None and batch.context_BT.tolist() == [[False] + [True] * 5 + [False] * 2]
    assert config().n_tokens == 9


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(2, 9), st.integers(0, 12), st.integers(0, 2**32))
def test_values_come_back_in_their_order(n_values: int, n_different: int, noise: int, seed: int) -> None:
    task = config(n_values, n_different, n_values + noise)
    shown = task.draw(n_values + noise, 7, Generator().manual_seed(seed))
    batch = task.lay_out(shown, n_values + noise, every=True)
    for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
        read = tokens[1 : 1 + n_values + noise]
        assert [token for token in read if token != NOISE] == targets[-n_values:]
        assert tokens[-n_values:] == [ASK] * n_values
        assert all(5 <= target < task.n_tokens for target in targets[-n_values:])


def test_places_are_uniform() -> None:
    """Each pair of places is as likely as another, with 5 places and 2 values."""
    shown = config().draw(5, 20_000, Generator().manual_seed(0))
    codes = ((shown != NOISE).long() * 2 ** torch.arange(5)).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 10 and stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_more_values_than_places() -> None:
    with pytest.raises(ConfigError, match="lengths starts at 5 places, and there are 6 values; raise it"):
        SelectiveCopyingConfig.parse({"n_values": 6, "lengths": [5], "test_lengths": [9]}, "data")
