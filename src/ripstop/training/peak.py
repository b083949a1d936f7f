"""The FLOP/s that a device can reach, and the part of them that a model uses. Moves no number of a training."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

MOVES_NO_NUMBER = "tells what part of a device a training uses"

DENSE_BF16_FLOPS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
}
"""Part of the device's name -> FLOP/s of dense bf16 matrix products, from NVIDIA's data sheets (which print twice that
for sparse ones). The first name found counts, so the longer ones stand first."""


@dataclass(frozen=True)
class Peak:
    """FLOP/s that model FLOPs utilisation is a part of, and whether a data sheet or a measurement says so."""

    flops: float
    source: str


def peak_flops(device: torch.device, precision: str) -> Peak:
    """What the device can reach: a data sheet's number for the GPUs listed above, else measured by `matmul_flops`.

    fp32 runs as TF32 on them, at half of bf16's rate. fp8 is measured against bf16's, so that its gain shows.
    """
    if device.type == "cuda":
        listed = listed_flops(torch.cuda.get_device_name(device), precision)
        if listed is not None:
            return Peak(listed, "data sheet")
    return Peak(matmul_flops(device, precision), "measured matrix product")


def listed_flops(name: str, precision: str) -> float | None:
    """Data sheet's FLOP/s of the device called `name`; None where it is not listed."""
    bf16 = next((flops for part, flops in DENSE_BF16_FLOPS.items() if part in name.replace("-", " ")), None)
    return bf16 / 2 if bf16 is not None and precision == "fp32" else bf16


def matmul_flops(device: torch.device, precision: str, seconds: float = 0.05) -> float:
    """FLOP/s of the fastest of some square matrix products made in about `seconds`, after one to warm up."""
    n = 4096 if device.type == "cuda" else 512
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    a, b = (torch.full((n, n), value, device=device, dtype=dtype) for value in (0.5, 0.25))  # draws no random number
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times[1:])


def mfu(model_flops: float, seconds: float, peak: float) -> float:
    """Model FLOPs utilisation (PaLM, arXiv 2204.02311, appendix B): FLOP/s of the model over the peak.

    model_flops: what the model needs in `seconds`; recomputation does not count.
    """
    return model_flops / seconds / peak
