"""Devices that are not there are refused, and what moves the last bits is set in one place."""

from __future__ import annotations

import os

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.training.config import Compute
from ripstop.training.precision import autocast, prepare_device


def test_threads_and_denormals_are_set():
    prepare_device(Compute(threads=1))
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-39]) * 0.5).item() == 0.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_device_is_refused():
    with pytest.raises(ConfigError, match=r"compute.device: torch finds no CUDA device"):
        prepare_device(Compute(device="cuda"))


def test_bf16_computes_products_in_bf16_and_keeps_parameters():
    linear = torch.nn.Linear(3, 5)
    with autocast(torch.device("cpu"), "bf16"):
        assert linear(torch.ones(2, 3)).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "fp32"):
        assert linear(torch.ones(2, 3)).dtype == torch.float32
    assert linear.weight.dtype == torch.float32


def test_a_hundred_thousand_threads_are_cut_to_the_machine_and_said(capsys: pytest.CaptureFixture[str]):
    prepare_device(Compute(threads=100_000))
    assert torch.get_num_threads() == os.cpu_count()
    assert "compute.threads: 100000 asked for" in capsys.readouterr().out
