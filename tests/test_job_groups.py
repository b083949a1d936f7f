"""Which jobs share a job of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop import params as parameters
from ripstop.config import ConfigError
from ripstop.job_groups import job_groups
from ripstop.plan import Plan, plan
from ripstop.runs import Run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def grid() -> Plan:
    return plan(parameters.load(ROOT / "params.yaml", scale="smoke"), ROOT)


def jobs(grid: Plan) -> dict[str, tuple[str, list[str]]]:
    """Every training and part, `study/run` or `study/run/parts/part` -> its group, and the jobs that it waits for."""
    found = {}
    for study, runs in grid.runs.items():
        for run, job in runs.items():
            trained = [f"{study}/{run}"] if job.trains else []
            if job.trains:
                tried = grid.choices[study].get(job.choice, [])
                found[f"{study}/{run}"] = job.group, [f"{study}/{name}" for name in tried]
            for name, part in job.parts.items():
                found[f"{study}/{run}/parts/{name}"] = part.group, [*trained, *(f"{study}/{other}" for other in part.reads)]
    return found


def test_few_groups_hold_nearly_everything(grid: Plan) -> None:
    found = jobs(grid)
    alone = {name for name, (group, _) in found.items() if not group}
    exclusive = {
        f"{study}/{run}/parts/{name}"
        for study, runs in grid.runs.items()
        for run, job in runs.items()
        for name, part in job.parts.items()
        if part.exclusive
    }
    assert alone == exclusive, "what is measured alone on its machine shares it with nothing"
    assert len(grid.groups) < len(found) / 10
    assert sum(grid.groups.values()) >= len(found) - len(alone)


def test_no_group_waits_for_another_one_in_a_circle(grid: Plan) -> None:
    found = jobs(grid)
    waits: dict[str, set[str]] = {}
    for name, (group, needed) in found.items():
        own = group or name
        waits.setdefault(own, set()).update({found[other][0] or other for other in needed} - {own})
    while waits:
        free = {name for name, others in waits.items() if not others & waits.keys()}
        assert free, f"a circle among {sorted(waits)}"
        waits = {name: others for name, others in waits.items() if name not in free}


def test_a_training_of_several_processes_has_its_own_job() -> None:
    def groups(**resources: int) -> dict[str, str]:
        runs = [Run.parse(RUN | {"name": name, "resources": resources}, "test") for name in "ab"]
        return job_groups("s", runs, {})

    assert groups(group=2, processes=2) == groups(group=1) == {}
    assert len(groups(group=2)) == 2 and len(set(groups(group=2).values())) == 1


def test_what_reads_other_parts_is_not_with_its_run() -> None:
    """Nor, where it reads what reads others itself, with those: a group that is left and entered again never starts."""
    evaluation = {name: {"kind": "state_size"} for name in ("first", "second", "third")}
    reads = {"a/parts/first": [], "a/parts/second": ["a/parts/first"], "a/parts/third": ["a/parts/second"]}
    run = Run.parse(RUN | {"name": "a", "resources": {"group": 2}, "evaluation": evaluation}, "test")
    groups = job_groups("s", [run], reads)
    assert groups["a"] == groups["a/parts/first"] != groups["a/parts/second"]
    assert "a/parts/third" not in groups


def test_a_group_s_runs_are_alike(grid: Plan) -> None:
    """They are at most so many, of one study, with one data, all candidates or none."""
    members: dict[str, list[tuple[str, str, bool]]] = {}
    for study, runs in grid.runs.items():
        tried = {name for names in grid.choices[study].values() for name in names}
        for run, job in runs.items():
            if job.group:
                members.setdefault(job.group, []).append((study, job.data, run in tried))
    assert all(len(set(runs)) == 1 and len(runs) <= 8 for runs in members.values())
    sizes = sorted(len(runs) for group, runs in members.items() if group.startswith("nsa_needle"))
    assert sizes == [4, 5], "nine runs, eight at most: as even as can be"


RUN = {
    "study": "s", "scale": "smoke", "name": "r", "seed": 0, "factors": {},
    "data": {"kind": "mqar", "layout": "decoder", "n_keys": 16, "n_values": 16, "num_pairs": [2], "test_pairs": [2]},
    "model": {"kind": "decoder_only", "d_model": 8, "pattern": "A", "mixers": {"A": {"kind": "attention", "n_heads": 1}}},
    "training": {"steps": 2, "tokens_per_step": 64, "lr": 0.01},
}  # fmt: skip


@pytest.mark.parametrize(
    ("resources", "mistake"),
    [
        ({"gpus": 4, "processes": 2}, "resources.processes: 2 with 4 GPUs, and each process has one"),
        ({"processes": 3, "nodes": 2}, "resources.nodes: 3 processes do not go into 2 nodes"),
        ({"nodes": 2}, "resources.nodes: 1 processes do not go into 2 nodes"),
        ({"gpu_model": "h100:80gb"}, "gpu_model"),
        ({"gpu_model": "h100"}, "resources.gpu_model: h100, and the run asks for no GPU; say how many in gpus"),
        ({"gpu_model": "h100", "gpus": 0}, "resources.gpu_model: h100, and the run asks for no GPU"),
    ],
)
def test_resources_that_do_not_fit_together(resources: dict, mistake: str) -> None:
    with pytest.raises(ConfigError, match=mistake):
        Run.parse(RUN | {"resources": resources}, "test").check()


@pytest.mark.parametrize(
    ("resources", "processes"),
    [({}, 1), ({"gpus": 4, "nodes": 2}, 4), ({"processes": 2}, 2), ({"gpus": 0}, 1), ({"gpus": 1, "group": 3}, 1)],
)
def test_processes_of_a_training(resources: dict, processes: int) -> None:
    run = Run.parse(RUN | {"resources": resources}, "test")
    run.check()
    assert run.n_processes == processes
