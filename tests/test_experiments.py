"""Experiments of DVC on a graph that runs: a parameter set on the command line, its results compared with the commit's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from status import small_graph
from test_dvc import commit, git
from test_workflow import ROOT, call, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STUDY = "study@lines"
METRICS = "results/metrics/cpu/lines.json"


def test_an_experiment_trains_what_it_adds_and_is_compared(tmp_path: Path) -> None:
    folder = small_graph.make(tmp_path / "checkout")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    for name in (".dvc/config", ".dvc/.gitignore", "dvc.yaml", ".gitignore", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    chosen = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(chosen.replace("scale: smoke", "scale: cpu"), encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    call(folder, "dvc", "repro", STUDY)
    commit(folder)
    (trained,) = folder.glob("results/cpu/lines/runs/*/model.safetensors")
    before = trained.stat().st_mtime_ns

    call(folder, "dvc", "exp", "run", "-n", "more", "-S", "studies.lines.seeds=[0,1]", STUDY)
    assert len(list(folder.glob("results/cpu/lines/runs/*/model.safetensors"))) == 2
    assert trained.stat().st_mtime_ns == before, "what was there is trained again"
    changes = json.loads(run(folder, "dvc", "metrics", "diff", "HEAD", "more", "--json").stdout)
    assert changes == {METRICS: {"n_runs": {"old": 1, "new": 2, "diff": 1}}}
    shown = call(folder, "dvc", "exp", "show", "--only-changed", "--csv")
    assert re.search(r"(?m)^.*\bmore\b", shown)
    assert "Stage 'study@line' not found" in call(folder, "dvc", "repro", "study@line", status=255)
