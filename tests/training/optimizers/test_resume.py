"""Every optimizer goes on, after kills, to the bits that it would have ended with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import tiny
from training.tiny import assert_equal, rows

from ripstop.training.optimizers import OPTIMIZERS


@pytest.mark.timeout(900)
def test_kills_change_no_bit_whatever_the_optimizer(tmp_path: Path) -> None:
    """kill -9 at the same kind of moments for each; the states come back from a checkpoint on the disk."""
    assert {told["kind"] for told in tiny.OPTIMIZERS.values()} == set(OPTIMIZERS.names()), "add the new kind to tiny.OPTIMIZERS"
    command = [sys.executable, tiny.__file__, "kill_each", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, capture_output=True, timeout=880)
    assert done.returncode == 0, done.stderr
    reached = json.loads(done.stdout.splitlines()[-1])
    ends = []
    for name, (first, second) in reached.items():
        assert 0 < first < second < tiny.SHORT["steps"], reached
        undisturbed, killed = (
            torch.load(tmp_path / name / which / "model.pt", weights_only=True) for which in ("undisturbed", "killed")
        )
        assert_equal(undisturbed, killed)
        steps = [
            [(row["step"], row["loss"], row["grad_norm"]) for row in rows(tmp_path / name / which)]
            for which in ("undisturbed", "killed")
        ]
        assert steps[0] == steps[1]
        ends.append(undisturbed["layers.0.linear.weight"])
    assert not any(torch.equal(a, b) for i, a in enumerate(ends) for b in ends[:i]), "two kinds are the same optimizer"
