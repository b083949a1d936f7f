"""What a run asks for is what its job gets; one that had too little is tried again with more."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from slurm.on_cluster import asked, checkout, completed, model, runs_of, said, wait_until, workflow

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.mark.slow
def test_gpus_memory_and_time(tmp_path: Path) -> None:
    """Three studies at once: on GPUs of a type and in one job; with too little memory; with a training that hangs."""
    folder = checkout(
        tmp_path,
        mqar_cliff={"resources": {"gpus": 1, "gpu_model": "h100", "mem_mb": 2000, "runtime": 7}},
        residual_init={"resources": {"mem_mb": 300, "runtime": 20, "group": 1}},
        blind_start={"resources": {"runtime": 1, "group": 1}, "steps": [150]},
    )
    on_gpus, (small, *_), (hanging, *_) = (runs_of(folder, study) for study in ("mqar_cliff", "residual_init", "blind_start"))
    # Not as they are meant: so that neither is where a job without a partition goes, nor preempted.
    site = {"SBATCH_PARTITION": "gpu", "RIPSTOP_GPU_PARTITION": "main", "RIPSTOP_LONGEST_JOB": "25"}
    lock = folder / "results/smoke" / hanging / "training.lock"
    with workflow(folder, *map(model, [*on_gpus[:3], small, hanging]), **site) as process:
        wait_until(lambda: lock.exists() and lock.read_text(), process, folder)
        os.kill(json.loads(lock.read_text())["pid"], signal.SIGSTOP)
        assert process.wait(600) == 0, said(folder)
    jobs = completed(folder)

    (one,) = [job for job in jobs if job["Partition"] == "main"]
    assert (one["JobState"], one["NodeList"]) == ("COMPLETED", "n3")
    assert (asked(one, "mem"), asked(one, "cpu"), one["TimeLimit"]) == ("2000M", "1", "21")
    for run in on_gpus[:3]:
        variables = json.loads((folder / "results/smoke" / run / "env.json").read_text())["environment"]
        assert variables["SLURM_JOB_ID"] == one["JobId"] and variables["CUDA_VISIBLE_DEVICES"] in {"0", "1"}

    others = [job for job in jobs if job["Partition"] == "gpu"]
    killed, hung = (
        [job for job in others if asked(job, "mem") in given] for given in (("300M", "600M", "900M"), ("3000M", "6000M"))
    )
    assert [(asked(job, "mem"), job["TimeLimit"]) for job in killed][:2] == [("300M", "20"), ("600M", "25")]
    assert [job["JobState"] for job in killed][:: len(killed) - 1] == ["FAILED", "COMPLETED"]
    assert [(job["JobState"], job["TimeLimit"], asked(job, "mem")) for job in hung] == [
        ("TIMEOUT", "1", "3000M"), ("COMPLETED", "2", "6000M"),
    ]  # fmt: skip
