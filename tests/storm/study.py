"""A study of several runs in a checkout of its own, and whether two checkouts hold the same results."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from test_workflow import copy_of_checkout, environment

from ripstop import yaml_file

STUDY = "mqar_cliff"
HOME = Path("results/smoke") / STUDY
RECORDS = Path(f"results/records/smoke/{STUDY}.jsonl.gz")
COMMAND = ["snakemake", str(RECORDS), "--config", "scale=smoke"]
PATTERNS = {"attention": "A", "mamba2_attention": "MA"}

OF_A_SESSION = {"seconds", "seconds_before", "resumed_at", "peak_flops"}
"""Of training.json: how long it took, how often it was interrupted, and how fast the machine was at its last start."""
OF_A_CLOCK = {"tokens_per_second", "mfu", "memory_bytes", "seconds", "seconds_left"}
"""Of a row of metrics.jsonl."""


def checkout(folder: Path, steps: int, seeds: int = 3, checkpoint_every: int = 40) -> Path:
    """A copy of this checkout in which there is one study, of two arms and so many seeds, at the smallest scale. On a cluster
    two runs share a job."""
    folder.mkdir(parents=True)
    copy_of_checkout(folder)
    params = folder / "params.yaml"
    values = yaml_file.mapping(params)
    values["studies"] = {STUDY: values["studies"][STUDY]}
    params.write_text(yaml_file.dump(values))
    for path in (folder / "workflow/scales").glob("*.yaml"):
        overlay = {key: value for key, value in yaml_file.mapping(path).items() if key in ("all", STUDY)}
        if path.stem == "smoke":
            overlay["all"]["reporting"] = {"log_every": 20, "checkpoint_every": checkpoint_every}
            overlay["all"]["resources"]["group"] = 2
            overlay[STUDY] = {
                "drop": [f"patterns.{name}" for name in values["studies"][STUDY]["patterns"] if name not in PATTERNS],
                "seeds": list(range(seeds)),
                "choice": None,
                "patterns": PATTERNS,
                "training": {"steps": steps, "validate_every": 100},
            }
        path.write_text(yaml_file.dump(overlay))
    return folder


def there(folder: Path) -> dict[str, str]:
    """The environment of a command on the checkout in `folder`."""
    return environment(folder, OMP_NUM_THREADS="1")


def made(folder: Path, *options: str) -> None:
    """Run the study, which must end well."""
    done = subprocess.run([*COMMAND, *options], cwd=folder, env=there(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def run_folders(folder: Path) -> list[Path]:
    return sorted((folder / HOME / "runs").iterdir())


def numbers(folder: Path) -> dict[str, Any]:
    """Whatever the study's results say but for the time that they took, by the file that says it."""
    found: dict[str, Any] = {str(RECORDS): (folder / RECORDS).read_bytes()}
    for run in run_folders(folder):
        report = json.loads((run / "training.json").read_text())
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for part in (run / "parts").glob("*/*"):
            found[f"{run.name}/{part.parent.name}/{part.name}"] = part.read_bytes()
        found[f"{run.name}/model.safetensors"] = (run / "model.safetensors").read_bytes()
        found[f"{run.name}/training.json"] = {k: v for k, v in report.items() if k not in OF_A_SESSION}
        found[f"{run.name}/metrics.jsonl"] = [{k: v for k, v in row.items() if k not in OF_A_CLOCK} for row in rows]
    return found


def assert_same(stormy: Path, calm: Path) -> None:
    """Bit for bit the same results, nothing left of an interruption, and nothing to do."""
    found, wanted = numbers(stormy), numbers(calm)
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    differ = [name for name in wanted if found[name] != wanted[name]]
    assert not differ, differ
    left = [
        path for pattern in (".*", "*.lock", "checkpoints", "heartbeats") for path in stormy.rglob(f"{HOME}/runs/*/{pattern}")
    ]
    left += [*stormy.glob(".snakemake/locks/*"), *stormy.glob(".snakemake/incomplete/*")]
    assert not left, left
    again = subprocess.run([*COMMAND, "--dry-run"], cwd=stormy, env=there(stormy), capture_output=True, text=True)
    assert "Nothing to be done" in again.stdout + again.stderr, again.stdout + again.stderr
