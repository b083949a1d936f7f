"""Lion against its published implementation, and one step by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from lion_pytorch import Lion as PublishedLion
from torch import nn
from training.tiny import TinyModel

from ripstop.training.optimizers.lion import LionConfig


def test_two_steps_by_hand() -> None:
    """Of a weight that decays, 0.5, with gradients 1 and -2: momenta 0.1 and 0.06, directions +1 and -1."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 0.5)
    optimizer = LionConfig(betas=(0.5, 0.9), weight_decay=0.2).build(model)
    for gradient, expected, momentum in [
        (1.0, 0.5 * (1 - 0.1 * 0.2) - 0.1, 0.1),
        (-2.0, (0.5 * 0.98 - 0.1) * 0.98 + 0.1, 0.9 * 0.1 - 0.1 * 2.0),  # 0.5 * 0.1 - 0.5 * 2 is below zero
    ]:
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        assert model.weight.item() == pytest.approx(expected, rel=1e-12)
        assert optimizer.state[model.weight]["exp_avg"].item() == pytest.approx(momentum, rel=1e-12)


def test_its_steps_are_those_of_the_published_library() -> None:
    torch.manual_seed(0)
    model = TinyModel()
    reference = copy.deepcopy(model)
    ours = LionConfig(betas=(0.9, 0.97), weight_decay=0.3).build(model)
    named = dict(reference.named_parameters())
    matrices = [p for name, p in named.items() if name.endswith("linear.weight")]
    vectors = [p for name, p in named.items() if not name.endswith("linear.weight")]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    theirs = PublishedLion(groups, lr=1.0, betas=(0.9, 0.97))
    for rate in (0.01, 0.03, 0.02, 0.005, 0.01):
        for p, q in zip(model.parameters(), reference.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for optimizer in (ours, theirs):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
    for (name, p), q in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-7, msg=name)


def test_its_state_is_one_number_a_parameter_and_what_has_no_gradient_stays() -> None:
    model = TinyModel()
    optimizer = LionConfig().build(model)
    parameters = list(model.parameters())
    before = [p.detach().clone() for p in parameters]
    for p in parameters[1:]:
        p.grad = torch.ones_like(p)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    assert torch.equal(parameters[0], before[0]) and not any(map(torch.equal, parameters[1:], before[1:]))
    held = sum(value.numel() for state in optimizer.state.values() for value in state.values())
    assert held == sum(p.numel() for p in parameters[1:])
