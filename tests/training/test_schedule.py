"""Learning rates by pencil."""

from __future__ import annotations

import math

import pytest
from training.tiny import config

from ripstop.training.schedule import learning_rate


def test_learning_rate_by_hand():
    settings = config(steps=10, warmup=0.2, lr=1.0, min_lr_ratio=0.1)
    rates = [learning_rate(step, settings) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]  # two steps of warm-up
    assert rates[5] == pytest.approx(0.55)  # 4 of 8 steps into the cosine: half way between 1 and 0.1
    assert rates[3] == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)  # 2 of 8: cos 45 degrees
    assert rates[9] == pytest.approx(0.1)
    assert rates[1:] == sorted(rates[1:], reverse=True)


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 1), (0.0, 7), (1.0, 1), (1.0, 7), (0.5, 1)])
def test_learning_rate_at_the_edges(warmup: float, steps: int):
    settings = config(steps=steps, warmup=warmup, lr=2.0, min_lr_ratio=0.25)
    rates = [learning_rate(step, settings) for step in range(steps)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[-1] == pytest.approx(0.5 if round(warmup * steps) < steps else 2.0)
