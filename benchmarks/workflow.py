"""What the workflow costs besides its jobs: planning, looking, doing nothing, and its share of a whole run.

    python benchmarks/workflow.py [--out benchmarks/results/workflow.json] [--runs 1000 5000] [--smoke mqar_cliff ...]

In a copy of the checkout, each command as a process of its own. `plan`, cold: parameters that no one planned before, with
torch's import; warm: the same again. `dry_run`: `snakemake --dry-run` where nothing is made yet. `no_op`: the same where all is
made, with stand-ins for results, and `status` there. Grids: those of the scales, and many seeds of `mqar_cliff`. `share`: one
execution of the smoke scale of some studies, and what of its CPU time the Snakemake process itself took, of the cores' time no
job had. CPU time is user and system time of a process and its children; wall time depends on what else the machine does
(`load`).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ripstop import provenance, yaml_file
from ripstop.files import write_text
from ripstop.status.workflow import jobs

HERE = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "params.yaml", "workflow", "src", "paper", "profiles", "slurm", "envs", "results/accepted.json")


OWN = """
import atexit, resource, runpy
def told():
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("own CPU time", used.ru_utime + used.ru_stime)
atexit.register(told)
runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
"""
"""Snakemake, which says at its end what it took itself, without its jobs."""


class Checkout:
    """A copy of the checkout, with a cache of its own and an interpreter that takes its code."""

    def __init__(self, folder: Path):
        self.folder = folder
        for part in PARTS:
            source, target = HERE / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target, follow_symlinks=False)
        self.run("compileall", "-q", "src")

    def run(self, module: str, *arguments: str) -> tuple[dict[str, float], str]:
        """Seconds of `python -m module arguments`, and what it printed. It has to end well."""
        return self.python("-m", module, *arguments)

    def python(self, *arguments: str) -> tuple[dict[str, float], str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        there = {"PATH": path, "PYTHONPATH": str(self.folder / "src"), "RIPSTOP_CACHE": str(self.folder / ".cache")}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, **there},
            capture_output=True,
            text=True,
        )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"cpu_s": round(cpu, 2), "wall_s": round(wall, 2)}, done.stdout + done.stderr

    def keep(self, studies: Iterable[str]) -> None:
        """Only these studies, at every scale."""
        for path in [self.folder / "params.yaml", *(self.folder / "workflow/scales").glob("*.yaml")]:
            values = yaml_file.mapping(path)
            block = values.get("studies", values)
            for name in block.keys() - {*studies, "all"}:
                del block[name]
            path.write_text(yaml_file.dump(values), encoding="utf-8")

    def many(self, n_runs: int) -> None:
        """A grid of so many runs at scale cpu: seeds of mqar_cliff alone, without a choice."""
        self.keep(["mqar_cliff"])
        for overlay in (self.folder / "workflow/scales").glob("*.yaml"):
            overlay.unlink()
        path = self.folder / "params.yaml"
        values = yaml_file.mapping(path)
        study = values["studies"]["mqar_cliff"]
        study["seeds"] = list(range(-(-n_runs // len(study["patterns"]))))
        study["choice"] = None
        path.write_text(yaml_file.dump(values), encoding="utf-8")

    def stand_ins(self, dry_run: str, scale: str) -> None:
        """Something in the place of every result, taken for up to date."""
        for job in jobs(dry_run, scale):
            for path in (self.folder / output for output in job.outputs):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix:
                    path.write_text("{}\n", encoding="utf-8")
                else:
                    path.mkdir(exist_ok=True)
        self.run("snakemake", "draft", "--touch", "--forceall", "--quiet", "all", "--config", f"scale={scale}")


def grid(folder: Path, scale: str, n_runs: int = 0, stand_ins: bool = True) -> dict[str, Any]:
    """Planning, looking and doing nothing on one grid."""
    checkout = Checkout(folder)
    if n_runs:
        checkout.many(n_runs)
    cold, said = checkout.run("ripstop", "plan", "--scale", scale)
    warm, _ = checkout.run("ripstop", "plan", "--scale", scale)
    asked = ("draft", "--dry-run", "--config", f"scale={scale}")
    dry, shown = checkout.run("snakemake", *asked)
    row = {
        "scale": scale, "runs": said.count("  on "), "jobs": len(jobs(shown, scale)), "plan_cold": cold, "plan_warm": warm,
        "dry_run": dry,
    }  # fmt: skip
    if stand_ins:
        checkout.stand_ins(shown, scale)
        row["no_op"], _ = checkout.run("snakemake", *asked)
        row["status"], _ = checkout.run("ripstop", "status", "--scale", scale)
    return row


def share(folder: Path, studies: list[str]) -> dict[str, Any]:
    """One execution of the smoke scale of `studies`, and what of the cores' time its jobs had."""
    checkout = Checkout(folder)
    checkout.keep(studies)
    took, said = checkout.python("-c", OWN, "draft", "--config", "scale=smoke")
    own = float(said.rpartition("own CPU time")[2].split()[0])
    files = [path.read_text(encoding="utf-8").splitlines() for path in folder.rglob("benchmarks/**/*.tsv")]
    rows = [next(csv.DictReader(lines, delimiter="\t")) for lines in files]
    wall = sum(float(row["s"]) for row in rows)
    cores = provenance.cpus()
    return {
        "studies": studies, "jobs": len(rows), **took, "cores": cores,
        "snakemake_cpu_s": round(own, 2), "share_of_cpu": round(own / took["cpu_s"], 3),
        "jobs_wall_s": round(wall, 2), "share_of_wall": round(1 - wall / (took["wall_s"] * cores), 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    parser.add_argument("--runs", type=int, nargs="*", default=[1000, 5000], help="sizes of the grids of many seeds")
    parser.add_argument("--smoke", nargs="*", default=["mqar_cliff", "d_state_scaling"], help="studies that are executed")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"grids": []}
    with tempfile.TemporaryDirectory() as found:
        folder = Path(found)
        for scale in ("smoke", "cpu"):
            report["grids"].append(grid(folder / scale, scale))
            print(json.dumps(report["grids"][-1]), flush=True)
        for n_runs in arguments.runs:
            report["grids"].append(grid(folder / str(n_runs), "cpu", n_runs, stand_ins=False))
            print(json.dumps(report["grids"][-1]), flush=True)
        report["share"] = share(folder / "share", arguments.smoke)
        print(json.dumps(report["share"]), flush=True)
    report |= {
        "commit": provenance.commit(), "load": os.getloadavg(), "cores": provenance.cpus(), "device": provenance.processor(),
        "versions": provenance.versions() | {"snakemake": version("snakemake")},
    }  # fmt: skip
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
