"""Faults under Snakemake."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import test_workflow
from test_workflow import checkout  # noqa: F401


@pytest.mark.slow
def test_time_stamps_in_the_future_make_nothing_stale(checkout: Path) -> None:  # noqa: F811
    """As after a clock that was years early: results, inputs and code alike."""
    test_workflow.make_everything_current(checkout)
    assert "Nothing to be done" in test_workflow.snakemake(checkout, "--dry-run", "draft")
    future = time.time() + 10 * 365 * 86400
    for path in sorted(checkout.rglob("*"), reverse=True):
        if path.is_file() and ".snakemake" not in path.parts and path.stat().st_size:
            os.utime(path, (future, future))
    said = test_workflow.snakemake(checkout, "--dry-run", "draft")
    assert "Nothing to be done" in said, said
