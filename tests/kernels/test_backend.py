"""The choice of a backend, and what is said about it."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.kernels.backend import KERNELS, choose, chosen

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("op", KERNELS)
def test_auto_on_a_cpu_is_torch_and_says_why(op: str) -> None:
    assert choose("auto", op, CPU, torch.float32) == "torch"
    assert chosen()[f"{op} on cpu in float32"] == f"torch ({KERNELS[op].name}: needs a CUDA device)"


@pytest.mark.parametrize("wanted", ["reference", "torch"])
def test_portable_forms_run_where_they_are_wanted(wanted: str) -> None:
    assert choose(wanted, "ssd", CUDA, torch.float64) == wanted


def test_a_forced_kernel_on_a_cpu_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'mamba_ssm' of ssd cannot run .needs a CUDA device.; set backend to 'auto'"):
        choose("mamba_ssm", "ssd", CPU, torch.float32)


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_a_forced_kernel_that_is_missing_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match="pip install --no-build-isolation flash-attn, in the order of envs/gpu"):
        choose("flash_attn", "attention", CUDA, torch.bfloat16)


def test_a_forced_kernel_without_the_precision_is_an_error() -> None:
    with pytest.raises(ConfigError, match="has no float32"):
        choose("flash_attn", "attention", CUDA, torch.float32)


def test_an_unknown_backend_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match="there is: auto, reference, torch, mamba_ssm"):
        choose("triton", "ssd", CPU, torch.float32)


def test_a_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            choose("reference", "convolution", CPU, torch.float16)
    assert [r.message for r in caplog.records] == ["convolution on cpu in float16: reference (as configured)"]
