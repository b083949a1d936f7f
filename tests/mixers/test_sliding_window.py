"""Sliding window: its numbers by hand, a memory of one size, and what it is the same as."""

from __future__ import annotations

import pytest
import torch

from ripstop.mixers.attention import AttentionConfig
from ripstop.mixers.base import held_bytes
from ripstop.mixers.sliding_window import SlidingWindowConfig

D_MODEL = 24


def test_a_window_wider_than_the_text_is_attention() -> None:
    wide = SlidingWindowConfig(n_heads=2, n_kv_heads=1, window_size=50).build(D_MODEL).double()
    full = AttentionConfig(n_heads=2, n_kv_heads=1).build(D_MODEL).double()
    full.load_state_dict(wide.state_dict())
    x_BTD = torch.randn(2, 50, D_MODEL, dtype=torch.float64)
    torch.testing.assert_close(wide(x_BTD), full(x_BTD))


def test_memory_stops_growing_and_the_ring_goes_on() -> None:
    config = SlidingWindowConfig(n_heads=2, window_size=5, sink_size=2)
    mixer = config.build(D_MODEL).double()
    x_BTD = torch.randn(1, 200, D_MODEL, dtype=torch.float64)
    with torch.no_grad():
        state = mixer.init_state(1, 200)
        assert held_bytes(state) == config.state_bytes(D_MODEL, 200, torch.float64) == 2 * 7 * 24 * 8
        for t in range(200):
            y_BD, state = mixer.step(x_BTD[:, t], state)
            assert held_bytes(state) == 2 * 7 * 24 * 8
        torch.testing.assert_close(y_BD, mixer(x_BTD)[:, -1])


def test_numbers_by_hand() -> None:
    config = SlidingWindowConfig(n_heads=3, window_size=4, sink_size=1)
    assert [config.state_bytes(24, n) for n in (1, 5, 6)] == [2 * 1 * 24 * 2, 2 * 5 * 24 * 2, 2 * 5 * 24 * 2]
    # Tokens of 8 see 1, 2, 3, 4, 5, 5, 5, 5: 30 pairs.
    assert config.flops_per_token(24, 8) == 2 * 4 * 24 * 24 + 2 * 2 * 24 * 30 // 8
    assert config.num_params(24) == 4 * 24 * 24


def test_a_full_state_says_so() -> None:
    mixer = SlidingWindowConfig(n_heads=2, window_size=9).build(D_MODEL)
    with torch.no_grad(), pytest.raises(ValueError, match="room for 4 tokens, 5 are needed"):
        _, state = mixer.prefill(torch.randn(1, 4, D_MODEL), mixer.init_state(1, 4))
        mixer.step(torch.randn(1, D_MODEL), state)
