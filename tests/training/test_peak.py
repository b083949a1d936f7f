"""Peaks and utilisation are what arithmetic and data sheets say."""

from __future__ import annotations

import pytest
import torch

from ripstop.training.peak import listed_flops, matmul_flops, mfu, peak_flops


def test_mfu_by_hand():
    # 45,000 tokens/s of a model of 400M parameters: 6 * 400e6 FLOPs a token on 989 TFLOP/s is 10.9 %
    assert mfu(6 * 400e6 * 45_000, 1.0, 989e12) == pytest.approx(0.1092, abs=1e-4)
    assert mfu(6 * 400e6 * 45_000 * 8, 8.0, 989e12) == pytest.approx(0.1092, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("Tesla K80", None),
    ],
)
def test_peaks_of_data_sheets(name: str, bf16: float | None):
    assert listed_flops(name, "bf16") == bf16
    assert listed_flops(name, "fp32") == (bf16 and bf16 / 2)


def test_the_peak_of_an_unlisted_device_is_measured():
    peak = peak_flops(torch.device("cpu"), "fp32")
    assert peak.source == "measured matrix product"
    a = torch.ones(256, 256)
    assert 1e8 < peak.flops < 1e14 and torch.isfinite(a @ a).all()


def test_measuring_draws_no_random_number():
    before = torch.get_rng_state()
    matmul_flops(torch.device("cpu"), "fp32", seconds=0.01)
    assert torch.equal(before, torch.get_rng_state())
