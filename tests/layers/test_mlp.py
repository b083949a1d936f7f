"""The mlp: by hand, and its widths."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from ripstop.config import ConfigError
from ripstop.layers.mlp import MlpConfig


def test_swiglu_by_hand() -> None:
    """One channel, width one: gate 2x, up 3x, out 5h; at x = 0.5: 5 * silu(1) * 1.5."""
    mlp = MlpConfig(d_mlp=1).build(1).double()
    with torch.no_grad():
        mlp.in_proj.weight.copy_(torch.tensor([[2.0], [3.0]]))
        mlp.out_proj.weight.fill_(5.0)
    expected = 5 * (1 / (1 + math.exp(-1))) * 1.5
    assert mlp(torch.tensor([[0.5]], dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


def test_gelu_by_hand() -> None:
    """Exact, by the normal distribution: gelu(1.5) = 1.5 Phi(1.5)."""
    mlp = MlpConfig(activation="gelu", d_mlp=1).build(1).double()
    with torch.no_grad():
        mlp.in_proj.weight.fill_(3.0)
        mlp.out_proj.weight.fill_(-2.0)
    expected = -2 * 1.5 * (1 + math.erf(1.5 / math.sqrt(2))) / 2
    assert mlp(torch.tensor([[0.5]], dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("settings", "width"), [({}, 28), ({"expand": 1.5}, 10), ({"d_mlp": 13}, 13), ({"expand": 0.01}, 1)])
@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
def test_widths_and_sizes(activation: str, settings: dict[str, float], width: int) -> None:
    config = MlpConfig.parse({"activation": activation} | settings, "mlp")
    mlp = config.build(7)
    assert config.width(7) == mlp.out_proj.in_features == width
    assert config.num_params(7) == sum(p.numel() for p in mlp.parameters())


def test_positions_do_not_mix() -> None:
    mlp = MlpConfig().build(7)
    x_BTD = torch.randn(2, 5, 7)
    assert_close(mlp(x_BTD)[:, 3], mlp(x_BTD[:, 3]))


def test_bad_settings_name_the_key() -> None:
    with pytest.raises(ConfigError, match="expand"):
        MlpConfig.parse({"expand": 0}, "mlp")
    with pytest.raises(ConfigError, match="d_mpl: unknown key; did you mean 'd_mlp'"):
        MlpConfig.parse({"d_mpl": 3}, "mlp")
