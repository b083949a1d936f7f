"""The plan: which files a change of parameters moves, what is pruned, and that nothing is written without need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ripstop import params
from ripstop import plan as planner
from ripstop.config import ConfigError
from ripstop.plan import Grid
from ripstop.runs import Run

FILE = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    """The shipped parameters at scale smoke, one study only."""
    loaded = params.load(FILE, scale="smoke")
    overlay = {name: loaded.overlays["smoke"][name] for name in ("all", "mqar_cliff")}
    studies = {"mqar_cliff": loaded.studies["mqar_cliff"]}
    return {"scale": "smoke", "studies": studies, "scales": {"smoke": overlay}}


def plan(config: dict[str, Any], root: Path, prune: bool = True) -> Grid:
    """The plan of `config`, whose `scales` are the overlays."""
    base = {key: config[key] for key in ("scale", "studies")}
    return planner.plan(params.parse(base, overlays=config["scales"]), root, prune)


def stamps(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Files that were written again, the memo apart."""
    return {name for name in before if after.get(name) != before[name] and not name.endswith("plan.json")}


def test_every_run_has_its_input_files_and_they_load(tmp_path: Path, config: dict[str, Any]) -> None:
    grid = plan(config, tmp_path)
    for study, runs in grid.runs.items():
        for name, data in runs.items():
            folder = tmp_path / "results" / "smoke" / study
            run = Run.load(folder / "runs" / name)
            assert (run.name, run.data.id, run.scale) == (name, data, "smoke")
            assert (folder / "data" / data / "prepare.code").is_file()


def test_a_second_plan_writes_nothing(tmp_path: Path, config: dict[str, Any]) -> None:
    first = plan(config, tmp_path)
    before = stamps(tmp_path)
    assert plan(config, tmp_path) == first
    assert stamps(tmp_path) == before


def test_one_more_seed_adds_runs_and_touches_no_other(tmp_path: Path, config: dict[str, Any]) -> None:
    plan(config, tmp_path)
    before = stamps(tmp_path)
    config["scales"]["smoke"]["mqar_cliff"]["seeds"] = [0, 1, 77]
    plan(config, tmp_path)
    after = stamps(tmp_path)
    assert not changed(before, after)
    assert after.keys() - before.keys()
    assert all("seed-77" in name or "seed-1" in name for name in after.keys() - before.keys())


def test_a_training_setting_moves_the_configs_and_not_the_data(tmp_path: Path, config: dict[str, Any]) -> None:
    plan(config, tmp_path)
    before = stamps(tmp_path)
    config["scales"]["smoke"]["mqar_cliff"]["training"] = {"steps": 7}
    plan(config, tmp_path)
    names = {Path(name).name for name in changed(before, stamps(tmp_path))}
    assert names == {"config.yaml"}
    assert not any("/data/" in name for name in changed(before, stamps(tmp_path)))


def test_an_evaluation_setting_retrains_nothing(tmp_path: Path, config: dict[str, Any]) -> None:
    plan(config, tmp_path)
    before = stamps(tmp_path)
    config["scales"]["smoke"]["mqar_cliff"]["evaluation"] = {"controls": ["own"]}
    plan(config, tmp_path)
    assert {Path(name).name for name in changed(before, stamps(tmp_path))} == {"evaluation.yaml"}


def test_a_shrunk_grid_prunes_what_left_it(tmp_path: Path, config: dict[str, Any]) -> None:
    config["scales"]["smoke"]["mqar_cliff"]["seeds"] = [0, 1]
    plan(config, tmp_path)
    runs = tmp_path / "results" / "smoke" / "mqar_cliff" / "runs"
    both = {path.name for path in runs.iterdir()}
    config["scales"]["smoke"]["mqar_cliff"]["seeds"] = [1]
    plan(config, tmp_path, prune=False)
    assert {path.name for path in runs.iterdir()} == both
    plan(config, tmp_path)
    left = {path.name for path in runs.iterdir()}
    assert left == {name for name in both if name.endswith("seed-1")}


def test_a_mistake_in_another_scale_is_told_now(tmp_path: Path, config: dict[str, Any]) -> None:
    config["scales"]["h100"] = {"mqar_cliff": {"trainning": {"steps": 1}}}
    with pytest.raises(ConfigError, match=r"h100.yaml: studies.mqar_cliff.trainning: unknown key; did you mean 'training'"):
        plan(config, tmp_path)
    assert not (tmp_path / "results").exists()


def test_torch_is_not_imported_when_nothing_changed(tmp_path: Path, config: dict[str, Any]) -> None:
    plan(config, tmp_path)
    script = (
        "import json, sys; from pathlib import Path; from ripstop.params import parse; from ripstop.plan import plan; "
        "config = json.load(sys.stdin); overlays = config.pop('scales'); "
        "plan(parse(config, overlays=overlays), Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, input=json.dumps(config), text=True).returncode == 0
