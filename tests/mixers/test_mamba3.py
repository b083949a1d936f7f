"""Mamba-3: its numbers by hand, what its state is kept in, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ripstop.config import ConfigError
from ripstop.mixers.mamba3 import Mamba3Config

D_MODEL = 24


def test_numbers_by_hand() -> None:
    config = Mamba3Config(d_state=16, head_dim=32)
    # d_inner 64, 2 heads, 4 angles; z, x, B, C, 3 numbers a head and the angles.
    assert config.num_params(32) == 32 * (64 + 64 + 16 + 16 + 6 + 4) + 64 * 32 + 2 * 2 + 2 * 2 * 16 + 2 * 16
    # The state and its angles in float32 beside bfloat16, then the last B of each head and the last x.
    assert config.state_bytes(32, 10) == (64 * 16 + 2 * 4) * 4 + (2 * 16 + 64) * 2
    assert config.state_bytes(32, 10) == config.state_bytes(32, 10_000)
    assert config.flops_per_token(32, 10) == 2 * (32 * 170 + 64 * 32 + 3 * 64 * 16)


def test_state_is_in_float32_where_the_weights_are_in_bfloat16_and_angles_stay_within_a_turn() -> None:
    mixer = Mamba3Config(head_dim=8, d_state=4, dt_init_range=(5, 9)).build(D_MODEL).bfloat16()
    with torch.no_grad():
        _, state = mixer.prefill(torch.randn(1, 50, D_MODEL).bfloat16(), mixer.init_state(1, 60))
        y_BD, state = mixer.step(torch.randn(1, D_MODEL).bfloat16(), state)
    assert [t.dtype for t in state] == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
    assert y_BD.dtype == torch.bfloat16 and state.angle_BHR.min() >= 0 and state.angle_BHR.max() < 2 * math.pi


def test_initial_step_sizes_lie_in_their_range() -> None:
    mixer = Mamba3Config(head_dim=1, d_state=4, dt_init_range=(0.01, 0.2)).build(64)
    dt = nn.functional.softplus(mixer.dt_bias)
    assert 0.0099 < dt.min() < 0.02 and 0.1 < dt.max() < 0.2001


def test_a_state_never_stops_to_decay() -> None:
    mixer = Mamba3Config(head_dim=8, d_state=4, A_floor=0.25).build(D_MODEL)
    with torch.no_grad():
        mixer.in_proj.weight.mul_(100)
        _, projected = mixer._project(torch.randn(2, 50, D_MODEL))
    least_BTH = -0.25 * projected.dt_BTH
    assert (projected.a_BTH <= least_BTH).all() and (projected.a_BTH == least_BTH).any()


def test_sizes_that_do_not_fit_are_one_clear_sentence() -> None:
    with pytest.raises(ConfigError, match="expand . d_model = 48 must be a multiple of head_dim . n_groups = 32"):
        Mamba3Config(head_dim=32).build(D_MODEL)
    with pytest.raises(ConfigError, match="d_state 3 has no pair to turn at rope_fraction 0.5; set it to 0"):
        Mamba3Config.parse({"d_state": 3}, "mamba3")
    with pytest.raises(ConfigError, match="dt_init_range must be two positive numbers, the smaller first"):
        Mamba3Config.parse({"dt_init_range": [1, 0.5]}, "mamba3")
