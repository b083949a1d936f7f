"""Which kernel for attention torch tries first on a GPU: by command, and never against the user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ripstop import __main__ as commands
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


@pytest.mark.parametrize("words", [["train", "--help"], ["generate", "--help"], []])
def test_every_command_is_told_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(commands.sdpa, "choose_for", told.append)
    monkeypatch.setattr(sys, "argv", ["ripstop", *words])
    with pytest.raises(SystemExit):
        commands.main()
    assert told == [words[0] if words else ""]


@pytest.mark.gpu
def test_a_step_on_a_growing_cache_plans_nothing() -> None:
    """By a process of its own: torch reads the variable once."""
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
