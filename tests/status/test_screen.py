"""What the terminal shows of a status, and how a dry run is read."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ripstop.status.causes import settings
from ripstop.status.report import Pending, Run, Status
from ripstop.status.screen import Screen, duration
from ripstop.status.workflow import jobs

JOBS = [
    Pending("train", "pairs", "arm_seed-0", ["training.steps 4 -> 5"], 60.0, "measured"),
    Pending("train", "pairs", "arm_seed-1", ["training.steps 4 -> 5"], 60.0, "estimated"),
    Pending("assemble", "", "", ["a study is printed again"], 0.0, "unknown"),
]
STATUS = Status(
    "smoke", "snakemake draft", [Run("pairs", "arm_seed-0", "stale"), Run("pairs", "arm_seed-1", "stopped", 3, 5)],
    JOBS, 120.0, 60.0, 1, 2, 60.0, ["a study is printed again"], left=["results/smoke/pairs/runs/old"],
)  # fmt: skip


def shown(status: Status, long: bool = False, width: int = 10_000) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(Screen(status, long))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_causes_are_told_once_with_the_number_of_jobs() -> None:
    said = shown(STATUS)
    assert "  2 train: training.steps 4 -> 5\n" in said and "  1 assemble: a study is printed again\n" in said
    assert (
        "3 jobs, 60 s as measured before, 60 s estimated from others, 1 jobs of unknown length; about 60 s on the 2 cores here"
        in said
    )
    assert "the paper is not up to date: a study is printed again" in said
    assert "left the grid: results/smoke/pairs/runs/old; `python -m ripstop prune`" in said
    assert "arm_seed-0" not in said


def test_long_names_each_job_and_each_run_that_is_not_fresh() -> None:
    said = shown(STATUS, long=True)
    assert "train arm_seed-1: training.steps 4 -> 5 (60 s, estimated)" in said
    assert "stopped at step 3/5  pairs/arm_seed-1" in said and "stale  pairs/arm_seed-0" in said


def test_nothing_to_do() -> None:
    said = shown(replace(STATUS, jobs=[], paper=[], left=[]))
    assert said.endswith("nothing is stale\nthe paper is up to date\n")


def test_runs_that_have_lost_what_nothing_needs_are_named() -> None:
    gone = [Run("pairs", "arm_seed-0", "gone"), Run("pairs", "arm_seed-1", "fresh")]
    said = shown(replace(STATUS, runs=gone, jobs=[], paper=[], left=[]))
    assert "\n1 runs have lost files that nothing needs now, such as pairs/arm_seed-0; `snakemake` with such a file" in said


def test_a_narrow_terminal_loses_no_word() -> None:
    assert set(shown(STATUS).split()) == set(shown(STATUS, width=60).split())


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (99, "99 s"), (150, "2 min"), (5940, "99 min"), (12000, "3 h 20 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_settings_that_changed_came_or_went() -> None:
    before, now = "a: {b: 1, c: [1, 2]}\nd: x\n", "a: {b: 1.0, c: [1, 3]}\ne: null\n"
    assert settings(before, now) == ["a.c [1, 2] -> [1, 3]", 'd "x" -> (not there)', "e (not there) -> null"]


DRY = """
[Thu Jan  1 00:00:00 2026]
rule train:
    input: /tmp/ripstop-plan-ab_1/pairs/runs/r/config.yaml, results/smoke/data/d/data.json
    output: results/smoke/pairs/runs/r/model.safetensors
    jobid: 1
    reason: Updated input files: /tmp/ripstop-plan-ab_1/pairs/runs/r/config.yaml; Code has changed since last execution
    wildcards: scale=smoke, study=pairs, run=r
    resources: tmpdir=/tmp
[Thu Jan  1 00:00:00 2026]
localrule render:
    input: results/smoke/pairs/records.jsonl
    output: results/smoke/pairs/paper
    reason: Missing output files: results/smoke/pairs/paper; Input files updated by another job: results/records.jsonl
    wildcards: scale=smoke, study=pairs

group job 1c2 (jobs in lexicogr. order):

    [Thu Jan  1 00:00:00 2026]
    rule evaluate:
        input: results/smoke/pairs/runs/r/recall.yaml
        output: results/smoke/pairs/runs/r/parts/recall
        reason: Missing output files: results/smoke/pairs/runs/r/parts/recall
        wildcards: scale=smoke, study=pairs, run=r, part=recall

Job stats:
"""


def test_a_dry_run_is_read() -> None:
    train, render, grouped = jobs(DRY, "smoke")
    config = "results/smoke/pairs/runs/r/config.yaml"
    assert (train.rule, train.study, train.run, train.inputs[0], train.updated) == ("train", "pairs", "r", config, (config,))
    assert train.other == ("Code has changed since last execution",)
    assert (render.missing, render.remade) == (("results/smoke/pairs/paper",), ("results/records.jsonl",))
    part = "results/smoke/pairs/runs/r/parts/recall"
    assert (grouped.rule, grouped.wildcards["part"], grouped.outputs, grouped.missing) == (
        "evaluate",
        "recall",
        (part,),
        (part,),
    )
