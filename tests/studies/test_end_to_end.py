"""Every study there is, end to end on one run of its smallest grid: a new study gets this test by being there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop import params, studies
from ripstop.config import ConfigError
from ripstop.evaluation.evaluate import evaluate
from ripstop.files import write_text
from ripstop.paper import studies as printers
from ripstop.records import read_records
from ripstop.runs import Run
from ripstop.studies.base import runs
from ripstop.training.train import train

ROOT = Path(__file__).parents[2]
DOWNLOADS = {"documents", "questions", "text"}
"""Kinds of data whose smallest setting still needs a package from the network."""


def smallest(name: str) -> list[Run]:
    values = params.load(ROOT / "params.yaml", scale="smoke").study(name, "smoke")
    return list(runs(studies.load(name), values, "smoke", name))


def marked() -> list:
    return [
        pytest.param(name, marks=[pytest.mark.network] if smallest(name)[0].data.kind in DOWNLOADS else [])
        for name in studies.names()
    ]


@pytest.mark.parametrize("name", marked())
def test_one_run_end_to_end(name: str, tmp_path: Path) -> None:
    run = smallest(name)[0]
    folder, data = tmp_path / "runs" / run.name, tmp_path / "data"
    for file, text in run.files().items():
        write_text(folder / file, text)
    for stage in ("train", *run.evaluation):
        write_text(folder / f"{stage}.code", f"{stage}\n")
    run.data.prepare(data)
    if run.training is not None:
        train(folder, data)
    for part, settings in run.evaluation.items():
        records = read_records(evaluate(folder, data, part))
        assert records
        identity = (name, run.name, run.scale, run.seed, part, part)
        assert {(r.study, r.run, r.scale, r.seed, r.part, r.code) for r in records} == {identity}
        assert all(r.factors == run.factors for r in records)
        assert all((folder / "parts" / part / file).is_file() for file in settings.files)


def test_there_is_a_printer_for_every_study() -> None:
    for name in studies.names():
        assert printers.load(name).__name__.endswith(name)


def test_an_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mqar_cliff'"):
        studies.load("mqar_clif")


@pytest.mark.parametrize("name", studies.names())
def test_every_run_has_a_name_of_its_own_that_a_cluster_can_read(name: str) -> None:
    names = [run.name for run in smallest(name)]
    assert len(set(names)) == len(names)
    assert not [n for n in names if set(n) & set("=, /")]
