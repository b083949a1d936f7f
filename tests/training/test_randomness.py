"""What was drawn once is drawn again."""

from __future__ import annotations

import io
import random

import numpy as np
import torch

from ripstop.training.randomness import random_state, restore_random_state, seed_everything, seed_of_rank


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.rand(3).tolist()]


def test_restored_states_repeat_the_draws_through_a_safe_file():
    seed_everything(7)
    draw()  # leaves half of a pair of normal numbers in Python's and in numpy's state
    file = io.BytesIO()
    torch.save(random_state(), file)
    first = draw()
    assert draw() != first
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert draw() == first


def test_a_seed_repeats_everything():
    seed_everything(2**40 + 1)
    first = draw()
    seed_everything(2**40 + 1)
    assert draw() == first


def test_ranks_and_steps_have_seeds_of_their_own():
    seeds = {seed_of_rank(seed, step, rank) for seed in (0, 1) for step in (0, 1, 11) for rank in (0, 1, 11)}
    assert len(seeds) == 18 and seed_of_rank(1, 2, 3) == seed_of_rank(1, 2, 3) < 2**32
