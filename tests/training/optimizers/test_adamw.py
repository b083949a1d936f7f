"""Decay groups by name, two steps of AdamW against scalars."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from training.tiny import TinyModel

from ripstop.training.optimizers.adamw import AdamwConfig, parameter_groups


def test_only_matrices_decay_and_embeddings_do_not():
    model = TinyModel()
    decay, rest = parameter_groups(model, 0.3)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decay["params"]} == {"layers.0.linear.weight", "layers.1.linear.weight"}
    assert "embedding.weight" in {names[id(p)] for p in rest["params"]}  # which is the tied head too
    assert len(decay["params"]) + len(rest["params"]) == len(names)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)


def test_frozen_parameters_are_left_out():
    model = TinyModel()
    model.layers[0].linear.weight.requires_grad_(False)
    assert len(parameter_groups(model, 0.3)[0]["params"]) == 1


def test_its_steps_are_those_of_torch():
    """Bit for bit those of the same fused AdamW, and to rounding those of torch's plain loop."""
    for fused, tolerance in [(True, 0.0), (False, 1e-6)]:
        torch.manual_seed(0)
        model = TinyModel()
        reference = copy.deepcopy(model)
        decays = [name.endswith("linear.weight") for name, _ in model.named_parameters()]
        groups = [
            {"params": [p for p, d in zip(reference.parameters(), decays, strict=True) if d == which], "weight_decay": decay}
            for which, decay in [(True, 0.3), (False, 0.0)]
        ]
        ours = AdamwConfig(betas=(0.8, 0.9), weight_decay=0.3).build(model)
        theirs = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.9), fused=fused, foreach=False)
        for rate in (0.01, 0.03, 0.02):
            for p, q in zip(model.parameters(), reference.parameters(), strict=True):
                p.grad = torch.randn_like(p)
                q.grad = p.grad.clone()
            for optimizer in (ours, theirs):
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
        for p, q in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=tolerance)


def test_two_steps_equal_adamw_in_scalars():
    """Loshchilov and Hutter, algorithm 2, for one decaying and one other parameter."""
    model = nn.Linear(1, 1).double()
    start = {"weight": 0.7, "bias": -0.4}
    gradients = [{"weight": 0.5, "bias": -2.0}, {"weight": -0.1, "bias": 3.0}]
    rates, (beta1, beta2), decay = [0.01, 0.03], (0.8, 0.95), 0.2
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.fill_(start[name])
    optimizer = AdamwConfig(betas=(beta1, beta2), weight_decay=decay).build(model)
    for rate, gradient in zip(rates, gradients, strict=True):
        for name, p in model.named_parameters():
            p.grad = torch.full_like(p, gradient[name])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    for name, p in model.named_parameters():
        value, m, v = start[name], 0.0, 0.0
        for t, (rate, gradient) in enumerate(zip(rates, gradients, strict=True), 1):
            g = gradient[name]
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
            if name == "weight":
                value -= rate * decay * value
            value -= rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + 1e-8)
        assert p.item() == pytest.approx(value, rel=1e-12), name
