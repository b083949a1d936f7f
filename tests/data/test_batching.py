"""Flat storage, padding and batches under a budget: nothing lost, nothing twice, never over the budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripstop.config import ConfigError
from ripstop.data.batching import (
    Sequences,
    derived_seed,
    evenly,
    load_sequences,
    save_sequences,
    shuffled_batches,
    token_batches,
)

ROWS = st.lists(st.lists(st.integers(0, 70_000), max_size=9), min_size=1, max_size=12)
LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)


@given(ROWS)
def test_sequences_keep_their_rows(rows: list[list[int]]) -> None:
    sequences = Sequences.of(rows)
    assert list(sequences) == rows
    assert sequences.lengths.tolist() == [len(row) for row in rows]
    width = max(map(len, rows))
    backwards = np.arange(len(rows))[::-1].copy()
    assert sequences.padded(backwards, -1).tolist() == [row + [-1] * (width - len(row)) for row in rows[::-1]]


def test_sequences_through_a_file(tmp_path: Path) -> None:
    save_sequences(tmp_path / "x.safetensors", {"source": Sequences.of([[5, 6], []]), "target": Sequences.of([[7], [8]])})
    loaded = load_sequences(tmp_path / "x.safetensors")
    assert {name: list(rows) for name, rows in loaded.items()} == {"source": [[5, 6], []], "target": [[7], [8]]}
    with pytest.raises(ConfigError, match="no such file"):
        load_sequences(tmp_path / "y.safetensors")


def test_index_outside_is_an_error() -> None:
    with pytest.raises(IndexError):
        Sequences.of([[1]])[1]


@given(LENGTHS, st.integers(80, 200), st.integers(0, 5))
def test_batches_are_complete_within_budget_and_full(lengths: list[tuple[int, int]], budget: int, seed: int) -> None:
    source, target = np.array(lengths).T
    batches = shuffled_batches([source, target], budget, seed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) * (source[rows].max() + target[rows].max()) <= budget

    in_order = token_batches(np.arange(len(lengths)), [source, target], budget)
    assert np.concatenate(in_order).tolist() == list(range(len(lengths)))
    for rows, after in zip(in_order, in_order[1:], strict=False):  # the next row would not have fitted
        wider = np.append(rows, after[0])
        assert len(wider) * (source[wider].max() + target[wider].max()) > budget


def test_epochs_differ_in_rows_and_order_and_repeat_by_seed() -> None:
    lengths = [np.random.default_rng(0).integers(5, 60, 500) for _ in range(2)]
    one, again, other = (shuffled_batches(lengths, 400, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert {frozenset(rows.tolist()) for rows in one} != {frozenset(rows.tolist()) for rows in other}
    padded = sum(len(rows) * sum(column[rows].max() for column in lengths) for rows in one)
    assert sum(column.sum() for column in lengths) / padded > 0.7  # unsorted: 0.55


def test_a_row_beyond_the_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch of 9 tokens does not hold a row of 10; raise tokens_per_step"):
        token_batches(np.arange(2), [np.array([4, 5]), np.array([4, 5])], 9)


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {derived_seed(purpose, a, b) for purpose in ("x", "y") for a in range(20) for b in range(20)}
    assert len(seeds) == 800
    assert derived_seed("x", 1, 12) != derived_seed("x", 11, 2)


def test_rows_are_taken_at_equal_distances() -> None:
    assert evenly(range(9), 3) == [0, 3, 6] and evenly(range(10), 4) == [0, 2, 5, 7]
    assert evenly(range(3), 5) == [0, 1, 2] and evenly([], 4) == []
