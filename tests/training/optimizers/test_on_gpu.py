"""The optimizers where they are meant to run: a GPU, in bfloat16, compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training import tiny
from training.tiny import TinyModel

from ripstop.training.randomness import seed_everything

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("told", tiny.OPTIMIZERS.values(), ids=tiny.OPTIMIZERS)
def test_a_step_on_a_gpu_is_that_on_a_cpu(told: dict[str, Any]) -> None:
    """To the rounding of bfloat16 for Muon, and to 1e-4 of the step for the others."""
    config = tiny.config(optimizer=told).optimizer
    ends = []
    for device in ("cpu", "cuda"):
        seed_everything(1)
        model = TinyModel(d_model=64)
        gradients = [torch.randn_like(p) for p in model.parameters()]
        start = [p.detach().clone() for p in model.parameters()]
        model.to(device)
        optimizer = config.build(model)
        for _ in range(3):
            for p, gradient in zip(model.parameters(), gradients, strict=True):
                p.grad = gradient.to(device)
            for group in optimizer.param_groups:
                group["lr"] = 1e-2
            optimizer.step()
        ends.append([p.detach().cpu() - q for p, q in zip(model.parameters(), start, strict=True)])
    tolerance = 0.03 if told["kind"] == "muon" else 1e-4
    for on_cpu, on_gpu in zip(*ends, strict=True):
        assert (on_cpu - on_gpu).norm() <= tolerance * on_cpu.norm()
