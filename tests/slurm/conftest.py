"""A real Slurm for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "cluster"


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """The script of a cluster that runs: nodes n1 to n3, partitions main, gpu and scavenge.

    It is taken down at the end, also when this process is killed. One that is there already is used, and stays.
    """
    ours = subprocess.run([SCRIPT, "status"], capture_output=True).returncode != 0
    made = subprocess.run([SCRIPT, "up", *([str(os.getpid())] if ours else [])], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(made.stderr.strip())
    yield SCRIPT
    if ours:
        subprocess.run([SCRIPT, "down"], check=True)


@pytest.fixture(autouse=True)
def nodes(slurm: Path) -> None:
    """Every node is up: a test may have killed one."""
    subprocess.run([slurm, "up"], check=True)
