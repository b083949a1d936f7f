"""Muon against torch's, stacked projections against the same ones apart, and AdamW for what is no matrix."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.tiny import TinyModel

from ripstop.ops.orthogonalize import QUINTIC, newton_schulz
from ripstop.training.optimizers.muon import Muon, MuonConfig

RATES = (0.02, 0.03, 0.01)


def gradients_of(model: nn.Module, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Three steps along gradients that are the same for every optimizer."""
    for seed, rate in enumerate(RATES):
        for name, gradient in gradients_of(model, seed).items():
            model.get_parameter(name).grad = gradient.to(model.get_parameter(name).dtype)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        optimizer.step()


def distance(a: Tensor, b: Tensor, start: Tensor) -> float:
    """Of two ends, as a part of the way from the start."""
    return ((a - b).norm() / (b - start).norm()).item()


@pytest.mark.parametrize("settings", [{}, {"nesterov": False, "adjust_lr": "original"}], ids=["default", "original"])
@pytest.mark.parametrize(("rows", "columns"), [(48, 24), (24, 48)])
def test_its_steps_are_those_of_torch(rows: int, columns: int, settings: dict[str, Any]) -> None:
    """torch's works in bfloat16, whose rounding is the distance that is left."""
    torch.manual_seed(0)
    model = nn.Linear(columns, rows, bias=False)
    reference, start = copy.deepcopy(model), model.weight.detach().clone()
    told = {"momentum": 0.9, "weight_decay": 0.3, **settings}
    ours = MuonConfig(iteration="quintic", **told).build(model)
    ours.dtype = torch.bfloat16
    train(model, ours)
    train(reference, torch.optim.Muon(reference.parameters(), **{"adjust_lr_fn": "match_rms_adamw", **torchs(told)}))
    assert distance(model.weight, reference.weight, start) < 0.005
    # and the rest of it is seen: no decay, another momentum, or the other rule of Nesterov's, ends elsewhere
    for wrong in ({"weight_decay": 0.0}, {"momentum": 0.8}, {"nesterov": not told.get("nesterov", True)}):
        other = nn.Linear(columns, rows, bias=False)
        other.load_state_dict({"weight": start})
        train(other, MuonConfig(iteration="quintic", **(told | wrong)).build(other))
        assert distance(other.weight, reference.weight, start) > 0.03, wrong


def torchs(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings by torch's names."""
    return {{"adjust_lr": "adjust_lr_fn"}.get(name, name): value for name, value in settings.items()}


def test_three_steps_equal_the_formula_written_out() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 12, bias=False).double()
    weight, buffer = model.weight.detach().clone(), torch.zeros(12, 8, dtype=torch.float64)
    for seed, rate in enumerate(RATES):
        gradient = gradients_of(model, seed)["weight"].double()
        buffer = 0.9 * buffer + 0.1 * gradient
        orthogonal = newton_schulz(0.1 * gradient + 0.9 * buffer, QUINTIC, torch.float64)
        weight = weight * (1 - rate * 0.5) - rate * 0.2 * 12**0.5 * orthogonal
    train(model, MuonConfig(momentum=0.9, weight_decay=0.5, iteration="quintic").build(model))
    torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-10, atol=1e-12)


class Stacked(nn.Module):
    """Three projections of 4, 4 and 6 rows in one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(5, 14, bias=False)

    def stacked_rows(self) -> dict[str, list[int]]:
        return {"proj": [4, 4, 6]}


@pytest.mark.parametrize("split", [True, False])
def test_a_stacked_weight_steps_like_its_projections_apart(split: bool) -> None:
    torch.manual_seed(0)
    model = Stacked().double()
    apart = nn.ParameterList(part.clone() for part in model.proj.weight.detach().split([4, 4, 6]))
    together = MuonConfig(split=split).build(model)
    separate = Muon([{"params": list(apart), **{k: v for k, v in together.param_groups[0].items() if k != "params"}}], {})
    for seed, rate in enumerate(RATES):
        model.proj.weight.grad = gradients_of(model, seed)["proj.weight"].double()
        for p, gradient in zip(apart, model.proj.weight.grad.split([4, 4, 6]), strict=True):
            p.grad = gradient.clone()
        for optimizer in (together, separate):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    same = torch.allclose(model.proj.weight, torch.cat(list(apart)), rtol=1e-10, atol=1e-12)
    assert same == split


def test_what_is_no_matrix_is_trained_as_adamw_would() -> None:
    torch.manual_seed(0)
    model = TinyModel().double()
    reference = copy.deepcopy(model)
    train(model, MuonConfig(adamw_lr_scale=0.5, adamw_betas=(0.8, 0.9), weight_decay=0.3).build(model))
    vectors = [p for name, p in reference.named_parameters() if not name.endswith("linear.weight")]
    adamw = torch.optim.AdamW([{"params": vectors, "lr_scale": 0.5}], betas=(0.8, 0.9), weight_decay=0.0, fused=True)
    train(reference, adamw)
    for (name, p), q in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        assert torch.equal(p, q[1]) == (not name.endswith("linear.weight")), name


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32)])
def test_its_step_is_as_large_as_promised(shape: tuple[int, int]) -> None:
    """Root mean square 0.2 lr, whatever the shape; the original's is an orthogonal one times sqrt(max(1, rows / columns))."""
    for rule, expected in [("match_rms_adamw", 0.2), ("original", max(1.0, shape[0] / shape[1]) ** 0.5 / max(shape) ** 0.5)]:
        model = nn.Linear(shape[1], shape[0], bias=False)
        optimizer = MuonConfig(adjust_lr=rule, weight_decay=0.0).build(model)
        before = model.weight.detach().clone()
        model.weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        assert (model.weight - before).square().mean().sqrt().item() == pytest.approx(0.1 * expected, rel=0.15)


def test_a_zero_gradient_and_none_move_nothing() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    optimizer = MuonConfig(weight_decay=0.0).build(model)
    before = [p.detach().clone() for p in model.parameters()]
    model[0].weight.grad = torch.zeros(6, 6)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), before)) and model[1].weight not in optimizer.state


def test_every_parameter_is_in_one_group_and_the_schedule_reaches_all() -> None:
    model = TinyModel()
    optimizer = MuonConfig(adamw_lr_scale=0.25).build(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    assert [(group["muon"], group.get("lr_scale", 1.0), group["weight_decay"]) for group in optimizer.param_groups] == [
        (True, 1.0, 0.1),
        (False, 0.25, 0.0),
    ]
