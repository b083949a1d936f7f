"""Small runs share a job; what of it was finished stays when it fails, or its node dies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from slurm.on_cluster import checkout, completed, digest, model, nodes_at_work, runs_of, said, wait_until, workflow

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def weights() -> list[list[str]]:
    """Digests of the weights that each test made: of the same runs."""
    return []


def four_of(folder: Path) -> list[str]:
    """Runs of one group, the last of which is trained last: none costs more than those before it."""
    names = [f"architecture-{arm}_seed-0" for arm in ("mamba2", "attention", "attention_conv", "sliding_window")]
    return [run for name in names for run in runs_of(folder, "mqar_cliff") if run.endswith(name)]


def started(run: Path) -> int:
    """When its training began, in nanoseconds: env.json is written then, and no output that Snakemake removes."""
    return (run / "env.json").stat().st_mtime_ns


def test_one_fails(tmp_path: Path, weights: list[list[str]]) -> None:
    folder = checkout(tmp_path, mqar_cliff={"resources": {"group": 9}})
    runs = four_of(folder)
    *good, bad = (folder / "results/smoke" / run for run in runs)
    in_the_way = bad / "metrics.jsonl"
    in_the_way.mkdir(parents=True)  # where a training writes a file
    with workflow(folder, *map(model, runs)) as process:
        wait_until(lambda: completed(folder), process, folder)
        in_the_way.rmdir()
        assert process.wait(600) == 0, said(folder)
    failed, last = completed(folder)
    assert (failed["JobState"], last["JobState"]) == ("FAILED", "COMPLETED")
    trained_in = [json.loads((run / "env.json").read_text())["environment"]["SLURM_JOB_ID"] for run in (*good, bad)]
    assert trained_in == [failed["JobId"]] * 3 + [last["JobId"]]
    assert not (folder / ".snakemake/kept").exists(), "what was kept goes with the success"
    weights.append([digest(folder, run) for run in runs])


def test_the_node_dies(tmp_path: Path, slurm: Path, weights: list[list[str]]) -> None:
    folder = checkout(tmp_path, mqar_cliff={"resources": {"group": 9}})
    runs = four_of(folder)
    at = [folder / "results/smoke" / run for run in runs]
    kept = folder / ".snakemake/kept"
    with workflow(folder, *map(model, runs)) as process:
        wait_until(lambda: list(kept.glob("*/results/smoke/*/*/*/model.safetensors")), process, folder)
        finished = {run: started(run) for run in at if (run / "model.safetensors").exists()}
        assert 0 < len(finished) < 4
        (node,) = nodes_at_work(folder)
        subprocess.run([slurm, "kill", node], check=True)
        assert process.wait(600) == 0, said(folder)
    jobs = completed(folder)
    assert jobs[-1]["JobState"] == "COMPLETED" and jobs[-1]["NodeList"] != node
    assert len({job["JobId"] for job in jobs}) == 1, "Slurm itself began the job again"
    assert finished == {run: started(run) for run in finished}
    weights.append([digest(folder, run) for run in runs])
    assert weights[0] == weights[-1]
