"""The workflow of a checkout on the cluster, and what the cluster says of its jobs."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from test_workflow import copy_of_checkout, environment, grid_of

from ripstop import yaml_file

COMPLETED = Path(os.environ.get("MINI_SLURM_DIR", "/tmp/mini-slurm")) / "log/jobs.txt"


def checkout(folder: Path, **studies: Any) -> Path:
    """A copy of the checkout whose smallest scale has these settings, too: study -> those to lay over."""
    copy_of_checkout(folder)
    change(folder, **studies)
    grid_of(folder)  # a plan, made where torch is imported already: the workflow remembers it
    return folder


def change(folder: Path, **studies: Any) -> None:
    path = folder / "workflow/scales/smoke.yaml"
    path.write_text(yaml.safe_dump(_laid_over(yaml_file.mapping(path), studies)), encoding="utf-8")


def _laid_over(under: Any, over: Any) -> Any:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return under | {key: _laid_over(under.get(key), value) for key, value in over.items()}


@contextmanager
def workflow(folder: Path, *targets: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The workflow at work on `targets`, below results/smoke; stopped at the end where it has not ended."""
    command = ["snakemake", "--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1", "--config", "scale=smoke"]
    command += ["--", *(f"results/smoke/{target}" for target in targets)]
    with (folder / "said").open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder, **variables), stdout=said, stderr=subprocess.STDOUT, text=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def said(folder: Path) -> str:
    return (folder / "said").read_text(encoding="utf-8")


def completed(folder: Path) -> list[dict[str, str]]:
    """The jobs of a checkout in the order in which they ended, as the cluster logs them: JobState, Partition, NodeList, ..."""
    lines = COMPLETED.read_text(encoding="utf-8").splitlines() if COMPLETED.exists() else []
    jobs = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]
    return [job for job in jobs if job["WorkDir"] == str(folder)]


def nodes_at_work(folder: Path) -> list[str]:
    """Those on which jobs of a checkout run."""
    jobs = subprocess.check_output(["squeue", "-h", "-t", "R", "-o", "%N %Z"], text=True).splitlines()
    return [job.split()[0] for job in jobs if job.split()[1] == str(folder)]


def asked(job: dict[str, str], what: str) -> str:
    """What a job was given of a resource, such as mem."""
    return dict(item.split("=") for item in job["Tres"].split(","))[what]


def runs_of(folder: Path, study: str) -> list[str]:
    return [f"{study}/runs/{run}" for run in grid_of(folder).runs[study]]


def model(run: str) -> str:
    return f"{run}/model.safetensors"


def digest(folder: Path, run: str) -> str:
    return hashlib.sha256((folder / "results/smoke" / model(run)).read_bytes()).hexdigest()


def wait_until(happens: Callable[[], Any], process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not happens():
        assert process.poll() is None and time.monotonic() < deadline, said(folder)
        time.sleep(0.2)
