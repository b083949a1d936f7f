"""Norms: by hand, in half precision, their gradient, and their configurations."""

from __future__ import annotations

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.layers.norms import NORMS
from ripstop.layers.norms.base import NormConfig
from ripstop.layers.norms.rms_norm import RMSNorm


def test_by_hand() -> None:
    """(3, 4) has mean square 12.5; a weight of (2, 10) and an eps of 3.5 make 6/4 and 40/4."""
    norm = RMSNorm(2, eps=3.5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 10.0]))
    assert norm(torch.tensor([[3.0, 4.0]])).tolist() == [[1.5, 10.0]]


def test_half_precision_is_normed_in_full() -> None:
    """Squares of 300 overflow float16; the norm of a constant is one all the same, and zeros stay zeros."""
    norm = RMSNorm(5).half()
    assert norm(torch.full((1, 5), 300.0, dtype=torch.float16)).tolist() == [[1.0] * 5]
    assert norm(torch.zeros(1, 5, dtype=torch.float16)).tolist() == [[0.0] * 5]
    assert norm(torch.ones(1, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gradient() -> None:
    norm = RMSNorm(3).double()
    assert torch.autograd.gradcheck(norm, (torch.randn(2, 3, dtype=torch.float64, requires_grad=True),))


def test_scale_of_the_input_is_forgotten() -> None:
    norm, x = RMSNorm(7, eps=0.0), torch.randn(2, 7)
    assert norm(17 * x).flatten().tolist() == pytest.approx(norm(x).flatten().tolist(), rel=1e-5)


def test_a_norm_is_a_config_found_by_its_kind() -> None:
    config = NORMS.parse({"kind": "rms_norm", "eps": 3.5})
    norm = config.build(2)
    assert isinstance(norm, RMSNorm) and norm.eps == 3.5
    assert config.num_params(2) == sum(p.numel() for p in norm.parameters()) == 2
    assert config.flops_per_token(2) == 0
    with pytest.raises(ConfigError, match="unknown kind 'rmsnorm'; did you mean 'rms_norm'?"):
        NORMS.parse({"kind": "rmsnorm"})
    for eps in (0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="rms_norm: eps"):
            NORMS.parse({"kind": "rms_norm", "eps": eps})


def test_a_norm_without_its_methods_says_which() -> None:
    class Unfinished(NormConfig):
        kind: str = "unfinished"

    with pytest.raises(NotImplementedError, match=r"Unfinished: a norm has to define build\(self, d_model\)"):
        Unfinished().build(2)
    with pytest.raises(NotImplementedError, match=r"Unfinished: a norm has to define num_params\(self, d_model\)"):
        Unfinished().num_params(2)
