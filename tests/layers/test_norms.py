"""Norms: by hand, in half precision, their gradient, and their configurations."""

from __future__ import annotations

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.layers.norms import NORMS
from ripstop.layers.norms.base import NormConfig
from ripstop.layers.norms.dynamic_tanh import DynamicTanh
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


def test_dynamic_tanh_by_hand() -> None:
    """3 tanh(2 atanh(1/2)) - 1, with tanh(2 a) = 2 t / (1 + t^2): 3 * 4/5 - 1."""
    norm = DynamicTanh(2, alpha=2.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([3.0, 1.0]))
        norm.bias.copy_(torch.tensor([-1.0, 5.0]))
    x = torch.tensor([[0.5, 0.0]]).atanh()
    assert norm(x)[0].tolist() == pytest.approx([1.4, 5.0])


def test_dynamic_tanh_reads_no_other_channel_and_is_bounded() -> None:
    norm = NORMS.parse({"kind": "dynamic_tanh", "alpha": 0.25}).build(5).double()
    x = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(norm(x)[0, 2], x)
    assert dx[0].nonzero().flatten().tolist() == [2] and torch.autograd.gradcheck(norm, (x,))
    assert norm(torch.full((1, 5), 1e30, dtype=torch.float64)).tolist() == [[1.0] * 5]


def test_dynamic_tanh_weighs_what_it_says_and_computes_in_full_precision() -> None:
    config = NORMS.parse({"kind": "dynamic_tanh"})
    norm = config.build(7)
    assert config.num_params(7) == sum(p.numel() for p in norm.parameters()) == 15
    assert config.flops_per_token(7) == 0 and norm.alpha.tolist() == [0.5]
    x = torch.randn(3, 7).bfloat16()
    half = norm.bfloat16()(x)
    assert half.dtype == torch.bfloat16 and torch.equal(half, torch.tanh(0.5 * x.float()).bfloat16())
    with pytest.raises(ConfigError, match="dynamic_tanh: alpha"):
        NORMS.parse({"kind": "dynamic_tanh", "alpha": 0})
