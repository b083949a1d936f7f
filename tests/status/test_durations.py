"""How long jobs take: as measured, else by others like them, else unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ripstop.plan import Job as PlannedJob
from ripstop.plan import Part, Plan
from ripstop.status.durations import Duration, Durations, left, longest_chain
from ripstop.status.report import threads
from ripstop.status.workflow import Job

CONFIG = "training:\n  steps: {steps}\n  tokens_per_step: 100\n"
ARMS = {"arm-a_seed-0": 10, "arm-a_seed-1": 10, "arm-b_seed-0": 40}
"""run -> its work"""


def plan(steps: int = 5) -> Plan:
    runs = {
        name: PlannedJob(
            data="d",
            trains=True,
            parts={"recall": Part("main", False)},
            threads=1,
            gpus=0,
            gpu_model=None,
            nodes=1,
            processes=1,
            mem_mb=100,
            runtime=1,
            evaluation_runtime=1,
            environment="main",
            work=work,
        )
        for name, work in ARMS.items()
    }
    files = {f"s/runs/{name}/config.yaml": CONFIG.format(steps=steps) for name in runs}
    return Plan("smoke", {"s": runs, "t": runs}, files)


def ran(root: Path, place: str, seconds: float) -> None:
    """A benchmark file as Snakemake writes it."""
    path = root / "results/smoke/benchmarks" / f"{place}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:00:01\t1.0\n", encoding="utf-8")


def lies(root: Path, run: str, name: str, text: str) -> None:
    path = root / "results/smoke/s/runs" / run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def train(run: str, study: str = "s") -> Job:
    return Job("train", {"study": study, "run": run})


def recall(run: str, study: str = "s") -> Job:
    return Job("evaluate", {"study": study, "run": run, "part": "recall"})


def test_what_ran_takes_as_long_again_and_its_siblings_too(tmp_path: Path) -> None:
    ran(tmp_path, "s/arm-a_seed-0/train", 8.0)
    ran(tmp_path, "s/arm-a_seed-0/recall", 3.0)
    known = Durations(plan(), tmp_path)
    assert known.of(train("arm-a_seed-0")) == Duration(8.0, "measured")
    assert known.of(train("arm-a_seed-1")) == Duration(8.0, "estimated")
    assert known.of(train("arm-b_seed-0")) == Duration(32.0, "estimated"), "four times the work"
    assert known.of(recall("arm-b_seed-0")) == Duration(3.0, "estimated")
    assert known.of(recall("arm-b_seed-0", "t")) == Duration(3.0, "estimated"), "of another study"
    assert known.of(train("arm-b_seed-0", "t")) == Duration(32.0, "estimated")
    assert known.of(Job("render", {"study": "s"})) == Duration(0.0, "unknown")


def test_more_steps_take_longer(tmp_path: Path) -> None:
    ran(tmp_path, "s/arm-a_seed-0/train", 8.0)
    lies(tmp_path, "arm-a_seed-0", "config.yaml", CONFIG.format(steps=10))
    assert Durations(plan(steps=15), tmp_path).of(train("arm-a_seed-0")) == Duration(12.0, "estimated")


def test_what_ran_with_other_steps_is_no_measure_of_others(tmp_path: Path) -> None:
    ran(tmp_path, "s/arm-a_seed-0/train", 8.0)
    lies(tmp_path, "arm-a_seed-0", "config.yaml", CONFIG.format(steps=10))
    assert Durations(plan(), tmp_path).of(train("arm-b_seed-0")) == Duration(0.0, "unknown")


def test_what_a_training_took_before_it_was_resumed_counts(tmp_path: Path) -> None:
    ran(tmp_path, "s/arm-a_seed-0/train", 8.0)
    lies(tmp_path, "arm-a_seed-0", "training.json", json.dumps({"seconds_before": 30.0}))
    assert Durations(plan(), tmp_path).of(train("arm-a_seed-0")) == Duration(38.0, "measured")


@pytest.mark.parametrize(("last", "seconds"), [("exit status 0 after 4 s", 4.0), ("exit status 1 after 4 s", 0.0), ("", 0.0)])
def test_a_rule_without_a_benchmark_has_its_log(tmp_path: Path, last: str, seconds: float) -> None:
    for place in ("paper/assemble", "s/choices/arm-a"):
        path = tmp_path / "results/smoke/logs" / f"{place}.log"
        path.parent.mkdir(parents=True)
        path.write_text(f"2026-01-01 00:00:00 + python\n2026-01-01 00:00:04 {last}\n", encoding="utf-8")
    known = Durations(plan(), tmp_path)
    for job in (Job("assemble"), Job("choose", {"study": "s", "choice": "arm-a"})):
        assert known.of(job) == Duration(seconds, "measured" if seconds else "unknown")


@pytest.mark.parametrize("before", ["NaN", "Infinity", "-5", "null", '"long"'])
def test_a_damaged_report_of_a_training_counts_for_nothing(tmp_path: Path, before: str) -> None:
    ran(tmp_path, "s/arm-a_seed-0/train", 8.0)
    lies(tmp_path, "arm-a_seed-0", "training.json", f'{{"seconds_before": {before}}}')
    assert Durations(plan(), tmp_path).of(train("arm-a_seed-0")) == Duration(8.0, "measured")


def test_a_benchmark_that_was_cut_short_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results/smoke/benchmarks/s/arm-a_seed-0/train.tsv"
    path.parent.mkdir(parents=True)
    for text in ("", "s\n", "s\tx\n-\t1\n", "x\ts\n1\n", "s\nnan\n", "s\ninf\n", "s\n-1\n"):
        path.write_text(text, encoding="utf-8")
        assert Durations(plan(), tmp_path).of(train("arm-a_seed-0")).basis == "unknown"


def test_a_measure_of_time_takes_every_core_and_a_training_those_of_its_processes() -> None:
    known = plan()
    parts = {"recall": Part("main", False), "speed": Part("main", True)}
    known.runs["s"]["arm-a_seed-0"] = replace(known.runs["s"]["arm-a_seed-0"], parts=parts, threads=3)
    known.runs["s"]["arm-b_seed-0"] = replace(known.runs["s"]["arm-b_seed-0"], threads=3, processes=4, nodes=2)
    speed = Job("evaluate", {"study": "s", "run": "arm-a_seed-0", "part": "speed"})
    asked = (speed, recall("arm-a_seed-0"), train("arm-a_seed-0"), Job("render", {"study": "s"}))
    assert [threads(known, job, 8) for job in asked] == [8, 3, 3, 1]
    assert threads(known, train("arm-a_seed-0"), 2) == 2
    assert threads(known, train("arm-b_seed-0"), 8) == 6, "of its processes on one node"
    assert threads(known, recall("arm-b_seed-0"), 8) == 3


def test_of_a_stopped_training_its_rest_is_left() -> None:
    assert left(Duration(100.0, "measured"), 30, 120) == Duration(75.0, "estimated")
    assert left(Duration(100.0, "measured"), 0, 120) == Duration(100.0, "measured")


def test_the_longest_chain_of_jobs() -> None:
    jobs = [
        Job("a", outputs=("x",)),
        Job("b", outputs=("y",)),
        Job("c", inputs=("x", "y"), outputs=("z",)),
        Job("d", inputs=("q",)),
    ]
    assert longest_chain(jobs, {0: 5.0, 1: 2.0, 2: 4.0, 3: 8.0}) == 9.0
