"""A training of several processes inside an allocation, on one node and on two, ends as that of one process does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from slurm.on_cluster import asked, change, checkout, completed, model, runs_of, said, workflow

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_two_processes_on_one_node_and_on_two(tmp_path: Path) -> None:
    """All in float32, as on one machine (tests/training/distributed)."""
    folder = checkout(tmp_path, swa_mla={"resources": {"group": 1}})
    run = runs_of(folder, "swa_mla")[0]
    at = folder / "results/smoke" / run
    ends, losses = {}, {}
    for nodes, processes in ((1, 1), (1, 2), (2, 2)):
        change(folder, swa_mla={"resources": {"nodes": nodes, "processes": processes}})
        (at / "model.safetensors").unlink(missing_ok=True)
        with workflow(folder, model(run)) as process:
            assert process.wait(600) == 0, said(folder)
        job = completed(folder)[-1]
        assert (job["NodeCnt"], asked(job, "cpu")) == (str(nodes), str(processes))
        assert json.loads((at / "training.json").read_text())["processes"] == processes
        ends[nodes, processes] = load_file(at / "model.safetensors")
        losses[nodes, processes] = [json.loads(line)["loss"] for line in (at / "metrics.jsonl").read_text().splitlines()]
    for several in ((1, 2), (2, 2)):
        assert losses[several] == pytest.approx(losses[1, 1], rel=1e-4)
        for name, one in ends[1, 1].items():
            torch.testing.assert_close(ends[several][name], one, rtol=0, atol=1e-3, msg=name)
    assert all(torch.equal(ends[1, 2][name], ends[2, 2][name]) for name in ends[1, 2])
