"""Learning rates by pencil, decay groups by name, one step of AdamW against scalars."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from training.tiny import TinyModel, config

from ripstop.training.optimizer import adamw, learning_rate, parameter_groups


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


def test_two_steps_equal_adamw_in_scalars():
    """Loshchilov and Hutter, algorithm 2, for one decaying and one other parameter."""
    model = nn.Linear(1, 1).double()
    start = {"weight": 0.7, "bias": -0.4}
    gradients = [{"weight": 0.5, "bias": -2.0}, {"weight": -0.1, "bias": 3.0}]
    rates, (beta1, beta2), decay = [0.01, 0.03], (0.8, 0.95), 0.2
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.fill_(start[name])
    optimizer = adamw(model, config(betas=(beta1, beta2), weight_decay=decay))
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
