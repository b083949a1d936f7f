"""Mamba-2 against transformers' module with the same weights, and its numbers by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ripstop.config import ConfigError
from ripstop.mixers.mamba2 import Mamba2, Mamba2Config

D_MODEL = 24


def _peer(ours: Mamba2) -> nn.Module:
    # Three seconds, of every process that collects tests.
    from transformers.models.mamba2.configuration_mamba2 import Mamba2Config as PeerConfig
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as PeerMixer

    config = ours.config
    peer = PeerMixer(
        PeerConfig(
            hidden_size=D_MODEL,
            num_heads=ours.n_heads,
            head_dim=config.head_dim,
            state_size=config.d_state,
            conv_kernel=config.d_conv,
            expand=config.expand,
            n_groups=config.n_groups,
            chunk_size=config.chunk_size,
            num_hidden_layers=1,
        ),
        layer_idx=0,
    )
    peer.load_state_dict(ours.state_dict())  # strict: every name and shape is the same
    return peer.to(ours.in_proj.weight.dtype)


@pytest.mark.parametrize("n_groups", [1, 3])
@pytest.mark.parametrize("n_time", [1, 3, 16, 37])
def test_equals_transformers_torch_path(n_groups: int, n_time: int) -> None:
    torch.manual_seed(n_time)
    ours = Mamba2Config(d_state=5, head_dim=8, n_groups=n_groups, chunk_size=16, dt_init_range=(0.1, 1.0)).build(D_MODEL)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours = ours.double()
    peer = _peer(ours)
    x_BTD = torch.randn(2, n_time, D_MODEL, dtype=torch.float64, requires_grad=True)
    y_ours, y_peer = ours(x_BTD), peer(x_BTD)
    # Their scan and norm go through float32 whatever the input is, so this is as near as it gets.
    torch.testing.assert_close(y_ours, y_peer, rtol=2e-5, atol=2e-5)
    dy = torch.randn_like(y_ours)
    names = [name for name, _ in ours.named_parameters()]
    got = torch.autograd.grad(y_ours, [x_BTD, *(ours.get_parameter(n) for n in names)], dy)
    wanted = torch.autograd.grad(y_peer, [x_BTD, *(peer.get_parameter(n) for n in names)], dy)
    for name, a, b in zip(["x", *names], got, wanted, strict=True):
        # At one token nothing has decayed yet: the gradient of A_log is 0.
        assert (a - b).norm() < 2e-5 * b.norm() + 1e-300, f"gradient of {name} differs by {(a - b).norm():.2g}"


def test_numbers_by_hand() -> None:
    config = Mamba2Config(d_state=16, head_dim=32, d_conv=4, expand=2)
    # d_inner 64, 2 heads, 64 + 32 = 96 channels, in_proj 32 x 162, out_proj 64 x 32.
    assert config.num_params(32) == 32 * 162 + 64 * 32 + 96 * 5 + 3 * 2 + 64
    assert config.state_bytes(32, 10) == 64 * 16 * 4 + 3 * 96 * 2  # the SSM state stays in float32 beside bfloat16
    assert config.state_bytes(32, 10) == config.state_bytes(32, 10_000)
    assert config.state_bytes(32, 10, torch.float64) == 64 * 16 * 8 + 3 * 96 * 8
    assert config.flops_per_token(32, 10) == 2 * (32 * 162 + 64 * 32 + 4 * 96 + 2 * 64 * 16)


def test_initial_step_sizes_and_decays_lie_in_their_ranges() -> None:
    mixer = Mamba2Config(head_dim=1, d_state=2, dt_init_range=(0.01, 0.2), A_init_range=(2.0, 3.0)).build(64)
    dt, A = nn.functional.softplus(mixer.dt_bias), mixer.A_log.exp()
    assert 0.0099 < dt.min() < 0.02 and 0.1 < dt.max() < 0.2001
    assert 1.999 < A.min() < 2.1 and 2.9 < A.max() < 3.001


def test_state_is_in_float32_where_the_weights_are_in_bfloat16() -> None:
    mixer = Mamba2Config(head_dim=8, d_state=4).build(D_MODEL).bfloat16()
    with torch.no_grad():
        _, state = mixer.prefill(torch.randn(1, 5, D_MODEL).bfloat16(), mixer.init_state(1, 9))
        y_BD, state = mixer.step(torch.randn(1, D_MODEL).bfloat16(), state)
    assert (state.conv.dtype, state.ssm.dtype, y_BD.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)


def test_vectors_are_what_the_optimizer_leaves_without_weight_decay() -> None:
    mixer = Mamba2Config(head_dim=8).build(D_MODEL)
    vectors = {name for name, parameter in mixer.named_parameters() if parameter.ndim < 2}
    assert vectors == {"A_log", "D", "dt_bias", "conv1d.bias", "norm.weight"}


def test_sizes_that_do_not_fit_are_one_clear_sentence() -> None:
    with pytest.raises(ConfigError, match="expand . d_model = 48 must be a multiple of head_dim . n_groups = 32"):
        Mamba2Config(head_dim=32).build(D_MODEL)
    with pytest.raises(ConfigError, match="A_init_range must be two positive numbers, the smaller first"):
        Mamba2Config.parse({"A_init_range": [3, 1]}, "mamba2")
    with pytest.raises(ConfigError, match="unknown key; did you mean 'd_state'"):
        Mamba2Config.parse({"d_stat": 3}, "mamba2")
