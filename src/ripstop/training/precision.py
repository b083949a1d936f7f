"""Device, number format and threads of a run: what moves the last bits of every number."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from ripstop.config import ConfigError
from ripstop.training.config import Compute
from ripstop.training.fp8 import in_use


def prepare_device(compute: Compute, precision: str = "fp32") -> torch.device:
    """The device of the run, with threads, denormals and TF32 set for it. `ConfigError` where it is not there.

    The one place that sets them. More threads than the machine has are cut to those, and said: a hundred thousand would
    end the process without a word.
    """
    threads = min(compute.threads, os.cpu_count() or 1)
    if threads < compute.threads:
        print(f"compute.threads: {compute.threads} asked for, {threads} used: this machine has no more", flush=True)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # decayed states fade into denormals, which a CPU multiplies 100 times slower
    if compute.device == "cpu":
        in_use(precision, torch.device("cpu"))
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("compute.device: torch finds no CUDA device; set it to 'cpu', or run where there is one")
    device = torch.device("cuda", torch.cuda.current_device())
    if in_use(precision, device) == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(f"training.precision: {torch.cuda.get_device_name()} has no bf16; set it to 'fp32'")
    torch.set_float32_matmul_precision("high")  # TF32
    torch.backends.cudnn.allow_tf32 = True
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16: matrix products in bf16 while parameters and their gradients stay float32. fp32: nothing.

    fp8: as bf16; the products of some layers are the model's own (`fp8.use_fp8`).
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=torch.bfloat16)
