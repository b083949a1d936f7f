"""A checkout with two tiny studies of its own, whose graph runs in seconds: one chooses its settings, one reads a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ripstop import yaml_file

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "src", "paper", "profiles", "slurm", "envs", "results/accepted.json")

STUDY = '''"""One arm."""

from collections.abc import Iterator
from typing import Any

from ripstop.data.{data} import {config}
from ripstop.mixers.mamba2 import Mamba2Config
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.studies.base import Arm, StudyParams
from ripstop.training.config import TrainingConfig
from ripstop.evaluation.{module} import {part}
from ripstop.evaluation.state_size import StateSizeConfig
from ripstop.config import Strict


class Evaluation(Strict):
    {name}: {part} = {part}()
    state: StateSizeConfig = StateSizeConfig()


class Params(StudyParams):
    data: {config}
    training: TrainingConfig
    evaluation: Evaluation = Evaluation()


def arms(params: Params) -> Iterator[Arm]:
    mixer = Mamba2Config(d_state=4, head_dim=8)
    yield Arm(factors={{"arm": "one"}}, model=DecoderOnlyConfig(d_model=8, pattern="M", mixers={{"M": mixer}}))
'''
PRINTER = '''"""Prints how many runs there are."""

from matplotlib.figure import Figure

from ripstop.paper import style
from ripstop.paper.select import StudyRecords
from ripstop.paper.tables import Table
from ripstop.statistics import Estimate

NUMBERS = ("n_runs",)


def numbers(records: StudyRecords) -> dict[str, Estimate]:
    return {{"n_runs": records.n_runs}}


def figures(records: StudyRecords) -> dict[str, Figure]:
    drawn = style.figure(columns=1, height=1)
    drawn.subplots().plot([0, 1], [0, 1], label="runs")
    return {{"{name}": drawn}}


def tables(records: StudyRecords) -> dict[str, Table]:
    return {{"{name}": Table(header=["runs"], rows=[[records.n_runs]], caption="Runs.")}}
'''
PARAMS = {
    "scale": "smoke",
    "studies": {
        "pairs": {
            "seeds": [0, 1],
            "choice": {"seed": 100, "settings": {"training": {"lr": [1e-3, 1e-2]}}},
            "data": {"kind": "mqar", "layout": "decoder", "n_keys": 8, "n_values": 8, "num_pairs": [2], "test_pairs": [2],
                     "n_test": 16, "n_valid": 8},
            "training": {"steps": 4, "tokens_per_step": 128, "lr": 1e-2, "validate_every": 2},
            "evaluation": {"recall": {"controls": ["own", "zero"]}},
        },
        "lines": {
            "seeds": [0],
            "data": {"kind": "text", "source": {"path": "corpus.txt", "text_document": "line"}, "tokenizer": {"kind": "bytes"},
                     "block_size": 16, "held_out_share": 0.2},
            "training": {"steps": 2, "tokens_per_step": 64, "lr": 1e-2},
        },
    },
}  # fmt: skip
CLAIMS = """claims:
  - id: two_seeds
    statement: There are two seeds.
    origin: hypothesis
    measure: pairs.n_runs
    criterion: {above: 1}
    scales: [cpu, smoke]
"""
STUDIES = {"pairs": ("mqar", "MqarConfig", "recall", "recall", "RecallConfig"),
           "lines": ("text", "TextConfig", "bits", "bits_per_byte", "BitsPerByteConfig")}  # fmt: skip


def make(folder: Path) -> Path:
    """The checkout, without results."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for path in (folder / "workflow/scales").glob("*.yaml"):
        path.unlink()
    for name, (data, config, part, module, settings) in STUDIES.items():
        study = STUDY.format(data=data, config=config, name=part, module=module, part=settings)
        (folder / f"src/ripstop/studies/{name}.py").write_text(study, encoding="utf-8")
        (folder / f"src/ripstop/paper/studies/{name}.py").write_text(PRINTER.format(name=name), encoding="utf-8")
        (folder / f"paper/sections/{name}.tex").write_text(f"\\section{{{name}}}\n", encoding="utf-8")
    (folder / "params.yaml").write_text(yaml_file.dump(PARAMS), encoding="utf-8")
    (folder / "workflow/scales/smoke.yaml").write_text("lines: {training: {steps: 3}}\n", encoding="utf-8")
    (folder / "corpus.txt").write_text("".join(f"the line number {n} of this text\n" for n in range(40)), encoding="utf-8")
    (folder / "paper/claims.yaml").write_text(CLAIMS, encoding="utf-8")
    return folder


def call(folder: Path, *command: str, status: int = 0) -> str:
    """Output of a command of this interpreter on the folder's own code, which must end with `status`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src"), "RIPSTOP_CACHE": str(folder / ".cache")}
    variables.pop("SNAKEMAKE_PROFILE", None)
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=variables, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
