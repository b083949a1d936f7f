"""Every study end to end on its smallest grid: one run is trained and evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.paper import studies as printers
from ripstop.records import read_records
from ripstop.runs import Run
from ripstop.studies.base import evaluate
from ripstop.training.train import train

ROOT = Path(__file__).parents[2]
RECALL = ["mqar_cliff", "d_state_scaling", "blind_start"]


def smoke_runs(name: str) -> list[Run]:
    loaded = params.load(ROOT / "params.yaml", scale="smoke")
    study = studies.load(name)
    return list(study.runs(study.Params.parse(loaded.study(name, "smoke"), name), "smoke"))


def lay_out(run: Run, root: Path) -> tuple[Path, Path]:
    """The folders that the plan would make."""
    folder, data = root / "runs" / run.name, root / "data" / run.data.id
    folder.mkdir(parents=True)
    for name, text in run.files().items():
        (folder / name).write_text(text)
    for stage in ("train", "evaluate"):
        (folder / f"{stage}.code").write_text("digest\n")
    run.data.prepare(data)
    return folder, data


def test_there_is_a_printer_for_every_study() -> None:
    for name in studies.names():
        assert printers.load(name).__name__.endswith(name)


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mqar_cliff'"):
        studies.load("mqar_clif")


@pytest.mark.parametrize("name", RECALL)
def test_one_run_end_to_end(name: str, tmp_path: Path) -> None:
    run = smoke_runs(name)[0]
    folder, data = lay_out(run, tmp_path)
    with pytest.raises(ConfigError, match="no trained model"):
        evaluate(folder, data)
    train(folder, data, ["training.steps=2"])
    records = read_records(evaluate(folder, data))
    assert {(r.study, r.run, r.seed, r.code) for r in records} == {(name, run.name, run.seed, "digest")}
    own = [r for r in records if r.metric == "accuracy" and r.slice["control"] == "own"]
    assert [r.slice["num_pairs"] for r in own] == run.data.test_pairs
    assert all(0 <= r.value <= 1 for r in own)
