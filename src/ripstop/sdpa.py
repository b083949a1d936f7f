"""Which of its kernels for attention torch tries first on a GPU."""

from __future__ import annotations

import os
from pathlib import Path

MOVES_NO_NUMBER = "kernels of torch that compute the same; its versions, too, choose among them in different ways"

DRIVER = Path("/dev/nvidiactl")
"""There where NVIDIA's driver is, so that nothing is said of a GPU where there is none."""
LAST = "TORCH_CUDNN_SDPA_DEPRIORITIZED"
"""Which torch reads (2.11 and later) when it first computes attention on a GPU."""


def choose_for(command: str, driver: Path = DRIVER) -> None:
    """cuDNN's kernel last, but for a training; before attention is first computed. What the user has set stands.

    torch takes cuDNN's first on Hopper, which plans anew for every length that it meets: a query on a cache that grows took
    51 ms, and 0.07 ms without. Rows of a training have few lengths, and there it is 1.6 times as quick
    (benchmarks/results/attention_step_cuda.json).
    """
    if command != "train" and driver.exists():
        os.environ.setdefault(LAST, "1")
