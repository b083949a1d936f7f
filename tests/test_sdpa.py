"""Which kernel for attention torch tries first on a GPU: by command, and never against the user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ripstop.sdpa import LAST, choose_for


@pytest.mark.parametrize(
    ("command", "gpu", "set_before", "wanted"),
    [
        ("evaluate", True, None, "1"),
        ("generate", True, "0", "0"),
        ("train", True, None, None),
        ("evaluate", False, None, None),
    ],
)
def test_cudnn_comes_last_where_caches_grow(
    command: str, gpu: bool, set_before: str | None, wanted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LAST, raising=False)
    if set_before is not None:
        monkeypatch.setenv(LAST, set_before)
    driver = tmp_path / "nvidiactl"
    if gpu:
        driver.touch()
    choose_for(command, driver)
    found = os.environ.get(LAST)
    monkeypatch.delenv(LAST, raising=False)
    assert found == wanted


@pytest.mark.gpu
def test_a_step_on_a_growing_cache_plans_nothing(tmp_path: Path) -> None:
    """By a process of its own: torch reads the variable once."""
    import subprocess
    import sys

    script = """
import torch, torch.nn.functional as F
from torch.profiler import profile
q, cache = torch.randn(1, 16, 1, 64, device="cuda").bfloat16(), torch.randn(1, 4, 999, 64, device="cuda").bfloat16()
with profile() as seen:
    F.scaled_dot_product_attention(q, cache, cache, enable_gqa=True)
assert not any("cudnn" in event.key for event in seen.key_averages()), [event.key for event in seen.key_averages()]
"""
    environment = {**os.environ, LAST: "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
