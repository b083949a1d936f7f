"""Moments in 8 bits: their bytes, what they cost in accuracy, and what is said where torchao is missing."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from training.tiny import TinyModel, TinyStream

from ripstop.config import ConfigError
from ripstop.training.objectives.cross_entropy import cross_entropy
from ripstop.training.optimizers import adamw_low_bit
from ripstop.training.optimizers.adamw import AdamwConfig
from ripstop.training.optimizers.adamw_low_bit import AdamwLowBitConfig
from ripstop.training.optimizers.base import OptimizerConfig
from ripstop.training.randomness import seed_everything

STEPS = 200


class Trained(NamedTuple):
    start: Tensor
    """The weights whose moments are kept in 8 bits."""
    end: Tensor
    loss: float
    """Mean of the last 20 steps."""
    optimizer: torch.optim.Optimizer
    gradients: list[list[Tensor]]
    """Of each step."""


def trained(config: OptimizerConfig, gradients: list[list[Tensor]] | None = None) -> Trained:
    """A tiny model after 200 steps along its own gradients, or the given ones."""
    seed_everything(1)
    model = TinyModel(d_model=64, dropout=0.0)
    optimizer = config.build(model)
    batches = [next(TinyStream(seed, 8, 16)) for seed in range(8)]
    start, losses, own = weights(model), [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = cross_entropy(model, batches[step % 8])
        (loss.sum / loss.n).backward()
        if gradients is not None:
            for p, gradient in zip(model.parameters(), gradients[step], strict=True):
                p.grad = gradient.clone()
        own.append([p.grad.clone() for p in model.parameters()])
        for group in optimizer.param_groups:
            group["lr"] = 3e-3
        optimizer.step()
        losses.append(loss.sum.item() / loss.n)
    return Trained(start, weights(model), sum(losses[-20:]) / 20, optimizer, own)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if name.endswith("linear.weight")])


@pytest.fixture(scope="module")
def reference() -> Trained:
    return trained(AdamwConfig())


@pytest.mark.parametrize(("moments", "bound"), [("8bit", 0.03), ("fp8", 0.07)])
def test_two_hundred_steps_along_the_same_gradients(moments: str, bound: float, reference: Trained) -> None:
    """The weights end within the stated part of the way that float32 moments take them."""
    found = trained(AdamwLowBitConfig(moments=moments), reference.gradients)
    error = ((found.end - reference.end).norm() / (reference.end - reference.start).norm()).item()
    assert torch.equal(found.start, reference.start) and bound / 10 < error < bound


@pytest.mark.slow
@pytest.mark.parametrize("moments", ["8bit", "fp8"])
def test_two_hundred_steps_of_its_own_learn_as_much(moments: str, reference: Trained) -> None:
    found = trained(AdamwLowBitConfig(moments=moments))
    assert found.loss == pytest.approx(reference.loss, rel=0.02)


def test_a_large_parameter_holds_two_bytes_a_number_and_its_scales() -> None:
    for moments in ("8bit", "fp8"):
        optimizer = one_step(AdamwLowBitConfig(moments=moments))
        weight = next(p for p in optimizer.state if p.shape == (64, 64))
        assert weight.dtype == torch.float32
        for name in ("exp_avg", "exp_avg_sq"):
            moment = optimizer.state[weight][name]
            assert (moment.codes.nbytes, moment.scale.nbytes) == (64 * 64, 64 * 64 // 256 * 4)
        small = [state["exp_avg"] for p, state in optimizer.state.items() if p.numel() < 4096]
        assert small and all(type(moment) is Tensor and moment.dtype == torch.float32 for moment in small)


def one_step(config: OptimizerConfig) -> torch.optim.Optimizer:
    model = TinyModel(d_model=64)
    optimizer = config.build(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


def test_a_missing_torchao_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    adamw_low_bit._optimizer.cache_clear()
    with pytest.raises(ConfigError, match=r"^training.optimizer.kind: adamw_low_bit needs torchao.*set kind to 'adamw'$"):
        AdamwLowBitConfig().build(TinyModel())


def test_a_gpu_without_fp8_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGPU:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(ConfigError, match=r"training.optimizer.moments: NVIDIA A100 has no fp8.*set it to '8bit'"):
        adamw_low_bit._check("fp8", [OnGPU()])
    adamw_low_bit._check("8bit", [OnGPU()])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    adamw_low_bit._check("fp8", [OnGPU()])
