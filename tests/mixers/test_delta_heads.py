"""Gated DeltaNet and KDA: their numbers by hand, what their state is kept in, and errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ripstop.config import ConfigError
from ripstop.mixers.delta_heads import DeltaConfig
from ripstop.mixers.gated_delta import GatedDeltaConfig
from ripstop.mixers.kda import KDAConfig

D_MODEL = 24
KINDS = pytest.mark.parametrize("config", [GatedDeltaConfig, KDAConfig])


def test_numbers_by_hand() -> None:
    config = GatedDeltaConfig(n_heads=2, head_k_dim=16, head_v_dim=32)
    # 32 channels of queries, of keys, and 64 of values: 128 behind the convolution.
    assert config.num_params(48) == 48 * (128 + 2 + 2 + 64) + 64 * 48 + 128 * 5 + 2 + 2 + 32
    assert config.state_bytes(48, 10) == 2 * 16 * 32 * 4 + 3 * 128 * 2  # the memory stays in float32 beside bfloat16
    assert config.state_bytes(48, 10) == config.state_bytes(48, 10_000)
    kda = KDAConfig(n_heads=2, head_k_dim=16, head_v_dim=32)
    assert kda.num_params(48) == 48 * (128 + 2 + 32 + 32) + 32 * (32 + 64) + 64 + 64 * 48 + 128 * 5 + 2 + 32 + 32
    assert kda.state_bytes(48, 10) == config.state_bytes(48, 10)


@KINDS
def test_memory_is_in_float32_where_the_weights_are_in_bfloat16(config: type[DeltaConfig]) -> None:
    mixer = config(n_heads=2, head_k_dim=8, head_v_dim=8).build(D_MODEL).bfloat16()
    with torch.no_grad():
        _, state = mixer.prefill(torch.randn(1, 5, D_MODEL).bfloat16(), mixer.init_state(1, 9))
        y_BD, state = mixer.step(torch.randn(1, D_MODEL).bfloat16(), state)
    assert (state.conv.dtype, state.memory.dtype, y_BD.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)


@KINDS
def test_vectors_are_what_the_optimizer_leaves_without_weight_decay(config: type[DeltaConfig]) -> None:
    vectors = {name for name, p in config(n_heads=2).build(D_MODEL).named_parameters() if p.ndim < 2}
    assert vectors - {"g_proj.1.bias"} == {"A_log", "dt_bias", "conv1d.bias", "norm"}


@KINDS
def test_initial_step_sizes_and_decays_lie_in_their_ranges(config: type[DeltaConfig]) -> None:
    mixer = config(n_heads=64, head_k_dim=2, dt_init_range=(0.01, 0.2), A_init_range=(2.0, 3.0)).build(D_MODEL)
    dt, A = F.softplus(mixer.dt_bias), mixer.A_log.exp()
    assert 0.0099 < dt.min() < 0.02 and 0.1 < dt.max() < 0.2001
    assert 1.999 < A.min() < 2.1 and 2.9 < A.max() < 3.001


@KINDS
def test_keys_and_queries_have_length_one_and_beta_its_range(config: type[DeltaConfig]) -> None:
    for negative, most in ((False, 1.0), (True, 2.0)):
        mixer = config(n_heads=3, head_k_dim=8, negative_eigenvalues=negative).build(D_MODEL)
        with torch.no_grad():
            mixer.b_proj.weight.mul_(1e3)
            x_BTD = torch.randn(2, 50, D_MODEL)
            q, k, _, g, beta = mixer._inputs(x_BTD, mixer.conv1d(mixer.qkv_proj(x_BTD)))
        torch.testing.assert_close(k.norm(dim=-1), torch.ones(2, 50, 3), rtol=1e-3, atol=0)
        torch.testing.assert_close(q.norm(dim=-1), torch.full((2, 50, 3), 8**-0.5), rtol=1e-3, atol=0)
        assert (g < 0).all() and 0 <= beta.min() < 0.01 and 0.99 * most < beta.max() <= most


def test_errors_are_one_clear_sentence() -> None:
    with pytest.raises(ConfigError, match="dt_init_range must be two positive numbers, the smaller first"):
        GatedDeltaConfig.parse({"dt_init_range": [0.1, 0.01]}, "gated_delta")
    with pytest.raises(ConfigError, match="unknown key; did you mean 'head_v_dim'"):
        KDAConfig.parse({"head_dim": 3}, "kda")
