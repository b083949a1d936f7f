"""The workflow: its graph at the smallest scale, its profiles, what makes a job stale, DVC's stages and bad input."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from snakemake.utils import available_cpu_count

from ripstop import __main__ as cli
from ripstop import params as parameters
from ripstop import yaml_file
from ripstop.plan import Plan, plan

ROOT = Path(__file__).resolve().parents[1]
PARTS = [
    "Snakefile",
    "dvc.yaml",
    "params.yaml",
    ".dvc/config",
    ".dvcignore",
    "envs",
    "workflow",
    "src",
    "paper",
    "slurm",
    "profiles",
]
BIN = Path(sys.executable).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the workflow reads, without results."""
    return copy_of_checkout(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a copy for all tests that look and change nothing: its modules are compiled once, and its plans remembered."""
    return copy_of_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def dry(shared: Path) -> str:
    """What a dry run of the smallest scale says."""
    grid_of(shared)
    return snakemake(shared, "--dry-run", "--printshellcmds", "draft")


def copy_of_checkout(folder: Path) -> Path:
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """For commands on the code that lies in `folder`."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    found = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src"), **variables}
    found.pop("SNAKEMAKE_PROFILE", None)
    return found


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command, run in `folder`."""
    there = environment(folder, **variables)
    return subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True, timeout=200)


def call(folder: Path, *command: str, status: int = 0, **variables: str) -> str:
    """Output of a command that must end with `status`."""
    done = run(folder, *command, **variables)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def snakemake(folder: Path, *arguments: str, status: int = 0) -> str:
    return call(folder, "snakemake", *arguments, "--config", "scale=smoke", status=status)


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, as a dry run counts them."""
    table = output.partition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.M)}


def params() -> dict:
    return yaml_file.mapping(ROOT / "params.yaml")


def grid_of(folder: Path, scale: str = "smoke") -> Plan:
    """The plan, made where torch is imported already: a process that asks for it in `folder` remembers it."""
    with contextlib.chdir(folder):
        return plan(parameters.load(Path("params.yaml"), scale=scale))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file but those of Snakemake's own folder, with its time stamp."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".snakemake" not in p.parts and "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def rules() -> dict[str, str]:
    """Rule -> its text, of every rule with a command."""
    found = {}
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for name, body in re.findall(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", path.read_text(), flags=re.M):
            if "shell:" in body:
                found[name] = body
    return found


def test_how_long_a_rule_took_is_kept_of_each() -> None:
    """By Snakemake, or in a log of `logged`: `status` tells from it how long it will take."""
    assert not [name for name, text in rules().items() if "benchmark:" not in text and "{LOGGED}" not in text]


def test_graph_of_the_smallest_scale(shared: Path, dry: str) -> None:
    counted = jobs(dry)
    grid = grid_of(shared)
    runs = [job for jobs_of_study in grid.runs.values() for job in jobs_of_study.values()]
    assert counted["train"] == sum(job.trains for job in runs) > 0
    assert counted["choose"] == sum(len(choices) for choices in grid.choices.values()) > 0
    assert counted["evaluate"] == sum(len(job.parts) for job in runs)
    assert counted["prepare"] == len(grid.data)
    assert counted["collect"] == counted["render"] == len(params()["studies"])
    assert counted["assemble"] == 1
    assert "publish" not in counted, "a draft must leave paper/ alone"


@dataclass(frozen=True)
class Shown:
    """A job as a dry run shows it; paths below results/smoke."""

    rule: str
    wildcards: dict[str, str]
    input: set[str]
    output: set[str]
    priority: int
    asks: dict[str, str]
    """All else that is told of it, threads and resources among it."""


def shown(output: str) -> list[Shown]:
    """Every job of a dry run; those of a group stand indented. A planned file that does not lie there yet is in a temporary
    folder."""
    found = []
    for indent, rule, body in re.findall(r"^( *)(?:local)?rule (\w+):\n((?:\1    .+\n)+)", output, flags=re.M):
        told = dict(re.findall(rf"^{indent}    (\w+): (.*)$", body, flags=re.M))
        paths = {key: set(filter(None, told.get(key, "").split(", "))) for key in ("input", "output")}
        below = {key: {re.sub(r"^(/\S+?/ripstop-plan-\w+|results/smoke)/", "", path) for path in paths[key]} for key in paths}
        wildcards = dict(pair.split("=") for pair in told.get("wildcards", "").split(", ") if pair)
        found.append(Shown(rule, wildcards, below["input"], below["output"], int(told.get("priority", 0)), told))
    return found


Jobs = dict[tuple[str, str, str], tuple[set[str], set[str]]]


def jobs_of(grid: Plan) -> Jobs:
    """(rule and part, data or study, run or choice) -> what the job reads and makes; paths below results/smoke."""
    wanted: Jobs = {}
    for data in grid.data:
        wanted["prepare", data, ""] = ({f"data/{data}/config.yaml", f"data/{data}/prepare.code"}, {f"data/{data}/data.json"})
    for study, runs in grid.runs.items():
        parts = set()
        for run, job in runs.items():
            home, data = f"{study}/runs/{run}", f"data/{job.data}/data.json"
            model, config = f"{home}/model.safetensors", f"{home}/config.yaml"
            choice = {f"{study}/choices/{job.choice}.json"} if job.choice else set()
            if job.trains:
                wanted["train", study, run] = ({config, f"{home}/train.code", data} | choice, {model, f"{home}/training.json"})
            for part, told in job.parts.items():
                own = {f"{home}/{part}.yaml", f"{home}/{part}.code"} | ({model} if job.trains else set())
                own |= {f"{study}/runs/{read}" for read in told.reads}
                wanted[f"evaluate {part}", study, run] = ({config, data} | own, {f"{home}/parts/{part}"})
                parts.add(f"{home}/parts/{part}")
        for choice, candidates in grid.choices[study].items():
            reports = {f"{study}/runs/{run}/training.json" for run in candidates}
            wanted["choose", study, choice] = (reports | {f"{study}/choose.code"}, {f"{study}/choices/{choice}.json"})
        records, code = f"results/records/smoke/{study}.jsonl.gz", f"{study}/paper.code"
        wanted["collect", study, ""] = (parts | {code}, {records, f"results/records/smoke/{study}.runs.json"})
        others = {f"results/records/smoke/{other}.jsonl.gz" for other in grid.reads[study]}
        made = {f"{study}/paper", f"results/metrics/smoke/{study}.json", f"results/metrics/smoke/{study}.csv"}
        wanted["render", study, ""] = ({records, code} | others, made)
    return wanted


def jobs_in(output: str) -> Jobs:
    """The same of what a dry run shows, without the jobs that make the paper from all studies."""
    found = {}
    for job in shown(output):
        about = job.wildcards
        place = about.get("data") or about.get("study", "")
        name = f"{job.rule} {about.get('part', '')}".strip()
        found[name, place, about.get("run", about.get("choice", ""))] = (job.input, job.output)
    return {key: value for key, value in found.items() if key[0] not in ("assemble", "pdf", "draft")}


def test_every_job_reads_and_makes_what_the_plan_says(shared: Path, dry: str) -> None:
    """Also that no checkpoint is an output: Snakemake removes outputs before a job starts."""
    assert jobs_in(dry) == jobs_of(grid_of(shared))


def test_a_part_runs_in_its_environment_where_that_was_made(checkout: Path) -> None:
    """Else in the active one, where it says what it lacks."""
    path = checkout / "params.yaml"
    values = params()
    values["studies"]["hybrid_ratio"]["evaluation"]["comet"] = {}
    path.write_text(yaml_file.dump(values), encoding="utf-8")
    run = "results/smoke/hybrid_ratio/runs/ratio-0_ablation-none_seed-0"
    asked = ("--dry-run", "--printshellcmds", f"{run}/parts/comet")
    command = rf"-m ripstop evaluate {run} --data results/smoke/data/\S+ --part comet"
    grid_of(checkout)
    assert re.search(rf"comet.log python {command}", snakemake(checkout, *asked))
    interpreter = checkout / ".venv-comet/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    said = snakemake(checkout, *asked)
    assert re.search(rf"comet.log .venv-comet/bin/python {command}", said)
    assert re.search(r"\.log python -m ripstop evaluate \S+ --data \S+ --part translation", said)


def test_a_choice_is_made_from_its_candidates_which_are_no_results(shared: Path, dry: str) -> None:
    study, arm = "d_state_scaling", "d_state-4_expand-2"
    candidates = [f"{arm}_candidate-{number}_seed-100" for number in (0, 1)]
    grid = grid_of(shared)
    assert grid.choices[study][arm] == candidates and not any(grid.runs[study][run].parts for run in candidates)
    folders = " ".join(f"results/smoke/{study}/runs/{run}" for run in candidates)
    assert f"python -m ripstop choose {folders} --out results/smoke/{study}/choices/{arm}.json" in dry


def test_data_is_prepared_first_and_the_longest_training_starts_next(shared: Path, dry: str) -> None:
    grid = grid_of(shared)
    trained = {(j.wildcards["study"], j.wildcards["run"]): j.priority for j in shown(dry) if j.rule == "train"}
    assert trained == {(s, run): job.work for s, runs in grid.runs.items() for run, job in runs.items() if job.trains}
    assert min(job.priority for job in shown(dry) if job.rule == "prepare") > max(trained.values())


@pytest.fixture(scope="module")
def cluster(shared: Path) -> str:
    """What a dry run of the same on a cluster says."""
    grid_of(shared)
    return call(shared, "snakemake", "--profile", "slurm", "--dry-run", "paper/tables", "--config", "scale=smoke")


def test_profile_of_the_cluster(cluster: str) -> None:
    assert "Using profiles slurm" in cluster
    assert jobs(cluster)["publish"] == 1
    assert not re.search(r"gpu=[1-9]", cluster), "the smallest scale asks for no GPU"


def test_a_measure_of_time_has_the_machine_for_itself(shared: Path, dry: str, cluster: str) -> None:
    """Every core of this machine; a node of a cluster, where cores have no number."""
    here, there = (
        {(j.wildcards["run"], j.wildcards["part"]): j.asks for j in shown(output) if j.rule == "evaluate"}
        for output in (dry, cluster)
    )
    runs = [item for jobs_of_study in grid_of(shared).runs.values() for item in jobs_of_study.items()]
    parts = {(run, name): part.exclusive for run, job in runs for name, part in job.parts.items()}
    assert set(here) == set(there) == set(parts) and set(parts.values()) == {True, False}
    for name, exclusive in parts.items():
        assert here[name].get("threads", "1") == (str(available_cpu_count()) if exclusive else "1"), name
        assert ("--exclusive" in there[name]["resources"]) == exclusive, name
        assert "threads" not in there[name], "one core of a node that it has for itself"


def test_in_a_job_of_a_cluster_every_command_is_the_same(shared: Path, dry: str) -> None:
    """Else Snakemake, started again there, would find all stale that the job depends on, and make it anew."""

    def commands(output: str) -> set[str]:
        found = re.findall(r"Shell command: (workflow/scripts/.*)", output)
        return {re.sub(r"/\S+?/ripstop-plan-\w+/", "results/smoke/", command) for command in found}

    there = snakemake(shared, "--dry-run", "--printshellcmds", "--mode", "remote", "--cores", "1", "draft")
    assert commands(there) == commands(dry) != set()


def test_what_a_site_and_a_run_ask_of_a_cluster(checkout: Path) -> None:
    """Partition, most minutes, GPUs by type, several nodes, groups: as the jobs are asked for."""
    studies = {
        "nsa_needle": {"gpus": 4, "gpu_model": "h100", "nodes": 2, "group": 1, "runtime": 600},
        "mqar_cliff": {"gpus": 2, "gpu_model": "a100", "group": 1, "runtime": 5},
        "residual_init": {"group": 2, "runtime": 30},
    }
    scale = checkout / "workflow/scales/smoke.yaml"
    text = scale.read_text(encoding="utf-8")
    for study, resources in studies.items():
        text = text.replace(f"\n{study}:\n", f"\n{study}:\n  resources: {json.dumps(resources)}\n")
    scale.write_text(text, encoding="utf-8")
    grid = grid_of(checkout)
    targets = [f"results/smoke/{study}/runs/{run}/model.safetensors" for study in studies for run in list(grid.runs[study])[:3]]
    told = call(
        checkout, "snakemake", "--profile", "slurm", "--dry-run", "--printshellcmds", "--config", "scale=smoke", "--", *targets,
        SBATCH_PARTITION="main", RIPSTOP_GPU_PARTITION="gpu", RIPSTOP_LONGEST_JOB="60",
    )  # fmt: skip
    asks = {job.wildcards["study"]: job.asks["resources"].split(", ") for job in shown(told) if job.rule == "train"}
    assert {"slurm_partition=gpu", "gpu=0", "gres=gpu:h100:2", "nodes=2", "tasks=2", "mpi=srun", "runtime=60"} <= set(
        asks["nsa_needle"]
    )
    assert {"slurm_partition=gpu", "gpu=2", "gpu_model=a100", "nodes=1", "runtime=5"} <= set(asks["mqar_cliff"])
    assert not [ask for ask in asks["mqar_cliff"] if ask.startswith(("gres", "mpi"))]
    assert {"slurm_partition=main", "gpu=0", "runtime=30", "slurm_extra=--signal=USR2@120"} <= set(asks["residual_init"])
    assert "slurm_extra=" in asks["mqar_cliff"], "a job of five minutes would be warned when it begins"
    starts = re.findall(r"workflow/scripts/torchrun (\d+ \d+) python", told)
    assert sorted(starts) == ["1 2"] * 3 + ["2 2"] * 3
    wrong = call(
        checkout, "snakemake", "--profile", "slurm", "-n", "--config", "scale=smoke", status=1, RIPSTOP_LONGEST_JOB="1-0"
    )
    assert "error: RIPSTOP_LONGEST_JOB: is '1-0', and no number of minutes" in wrong and "Traceback" not in wrong
    asked = ["snakemake", "--profile", "slurm", "--dry-run", "--config", "scale=smoke", "--", targets[-1]]
    (short,) = [job for job in shown(call(checkout, *asked, RIPSTOP_LONGEST_JOB="5")) if job.rule == "train"]
    resources = short.asks["resources"].split(", ")
    assert "runtime=5" in resources and "slurm_extra=" in resources, "nor a longer one that the site cuts to so many"


def test_the_full_scale_asks_for_a_gpu_a_run(shared: Path) -> None:
    """Every run of the plan; and one study's jobs, since the same rules serve all."""
    grid = grid_of(shared, "h100")
    assert {job.gpus for runs in grid.runs.values() for job in runs.values()} == {1}
    training = [study for study, runs in grid.runs.items() if all(job.trains for job in runs.values())]
    smallest = min(training, key=lambda study: len(grid.runs[study]))
    asked = call(shared, "snakemake", "--profile", "slurm", "--dry-run", f"study_{smallest}", "--config", "scale=h100")
    found = re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", asked, flags=re.M)
    names = {name for name, _ in found} - {f"study_{smallest}"}
    assert {name: {"gpu=1" in text for rule, text in found if rule == name} for name in names} == {
        "prepare": {False}, "train": {True}, "evaluate": {True}, "collect": {False}, "render": {False},
    } | ({"choose": {False}} if grid.choices[smallest] else {})  # fmt: skip


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with results of an earlier, larger grid, and of other settings."""
    folder = copy_of_checkout(tmp_path_factory.mktemp("grown"))
    grid_of(folder).write(root=folder)
    runs = folder / "results/smoke/mqar_cliff/runs"
    extra = runs / "architecture-mamba2_seed-99"
    shutil.copytree(runs / "architecture-mamba2_seed-0", extra)
    (extra / "model.safetensors").write_bytes(b"a night of training")
    (runs / "architecture-mamba2_seed-0/config.yaml").write_text("older\n")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["snakemake", "--dry-run", "draft", "--config", "scale=smoke"],
        ["snakemake", "--summary", "draft", "--config", "scale=smoke"],
        ["snakemake", "--list", "--config", "scale=smoke"],
        ["snakemake", "--dry-run", "draft", "--config", "scale=nothing"],
        ["ripstop", "plan"],
        ["ripstop", "plan", "--scale", "smoke", "--set", "studies.mqar_cliff.seeds=[0]"],
        ["ripstop", "plan", "--set", "studies.mqar_cliff.seeds=[yes]"],
        ["ripstop", "prune"],
        ["ripstop", "scale"],
    ],
    ids=" ".join,
)
def test_looking_leaves_the_tree_as_it_is(
    grown: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where results of an earlier, larger grid lie there."""
    before = contents(grown)
    if command[0] == "ripstop":
        monkeypatch.chdir(grown)
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit):
            cli.main()
        said = "".join(capsys.readouterr())
    else:
        done = run(grown, *command)
        said = done.stdout + done.stderr
    assert said and "Traceback" not in said
    assert contents(grown) == before


def make_everything_current(checkout: Path) -> None:
    """Empty results where results belong, and Snakemake told that they are current."""
    grid = grid_of(checkout)
    grid.write(root=checkout)
    generated = ("numbers.tex", "claims.tex", "claims.json", "appendix.tex", "tables", "figures", "sources", "main.pdf")
    paper = {f"paper/{name}" for name in generated}
    for name in paper.union(*(made for _, made in jobs_of(grid).values())):
        path = checkout / (name if name.startswith("results/") else f"results/smoke/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    snakemake(checkout, "--touch", "--forceall", "draft")


def test_only_what_changed_runs_again(checkout: Path) -> None:
    """Each study changes in another way, all at once: the jobs are those of the changes, and no other."""
    overlay, source = checkout / "workflow/scales/smoke.yaml", checkout / "src/ripstop/training/config.py"
    smoke = yaml_file.mapping(overlay)
    smoke["residual_init"]["choice"] = {"steps": 10}
    overlay.write_text(yaml_file.dump(smoke))
    make_everything_current(checkout)

    changed = copy.deepcopy(smoke)
    rates = {s: params()["studies"][s]["choice"]["settings"]["training"]["lr"] for s in ("d_state_scaling", "residual_init")}
    # one more seed; another way to measure; the second rate of two to choose from; one more rate; data prepared again
    changed["mqar_cliff"] |= {"seeds": [0, 1]}
    changed["blind_start"] |= {"evaluation": {"recall": {"batch_size": 32}}}
    changed["d_state_scaling"]["choice"]["settings"]["training"] = {"lr": [rates["d_state_scaling"][0], 0.3]}
    changed["residual_init"]["choice"]["settings"] = {"training": {"lr": [*rates["residual_init"], 0.3]}}
    overlay.write_text(yaml_file.dump(changed))
    grid = grid_of(checkout)
    data = grid.runs["hybrid_ratio"]["ratio-all_ablation-none_seed-0"].data
    with other_content(checkout / f"results/smoke/data/{data}/data.json"):
        found = set(jobs_in(snakemake(checkout, "--dry-run", "draft")))
    measured = {study: {run for run, job in runs.items() if job.parts} for study, runs in grid.runs.items()}
    candidates = {study: set(runs) - measured[study] for study, runs in grid.runs.items()}
    again = {study: measured[study] for study in ("d_state_scaling", "residual_init")}
    again["hybrid_ratio"] = {run for run, job in grid.runs["hybrid_ratio"].items() if job.data == data}
    again["mqar_cliff"] = {run for run in measured["mqar_cliff"] if run.endswith("_seed-1")}
    fresh = {study: {run for run in candidates[study] if f"_candidate-{number}_" in run}
             for study, number in (("d_state_scaling", 1), ("residual_init", len(rates["residual_init"])))}  # fmt: skip
    assert [len(runs) for runs in (*again.values(), *fresh.values())] == [4, 4, 8, 9, 2, 2]
    trained = {("train", study, run) for runs in (again, fresh) for study in runs for run in runs[study]}
    evaluated = {(f"evaluate {p}", s, run) for s in again for run in again[s] for p in grid.runs[s][run].parts}
    evaluated |= {("evaluate recall", "blind_start", run) for run in measured["blind_start"]}
    chosen = {("choose", study, choice) for study in fresh for choice in grid.choices[study]}

    def joined(studies: set[str]) -> set[tuple[str, str, str]]:
        reading = {study for study in grid.studies if studies & {study, *grid.reads[study]}}
        return {("collect", study, "") for study in studies} | {("render", study, "") for study in reading}

    assert found == trained | evaluated | chosen | joined({*again, "blind_start"}) and len(chosen) == 4

    # comments, how often a training reports and what it asks of its machine; and the code that chooses
    for path in (checkout / "params.yaml", source):
        path.write_text("# a comment\n" + path.read_text())
    mentioned = {"reporting": {"log_every": 3}, "resources": {"mem_mb": 2000}}
    overlay.write_text(yaml_file.dump(smoke | {"mqar_cliff": smoke["mqar_cliff"] | mentioned}))
    study, planner = "d_state_scaling", checkout / "src/ripstop/plan.py"
    before, line = planner.read_text(), "code_line(CHOOSE, NOT_ACCEPTED)"
    assert line in before
    planner.write_text(before.replace(line, f'{line} * (1 + (name == "{study}"))'))
    found = set(jobs_in(snakemake(checkout, "--dry-run", "draft")))
    planner.write_text(before)
    wanted = {job for job in trained | evaluated | chosen if job[1] == study and job[2] not in candidates[study]}
    assert found == wanted | joined({study})

    assert "Nothing to be done" in snakemake(checkout, "draft")  # and the next training reports as it is told
    reporting = (checkout / "results/smoke/mqar_cliff/runs").glob("*/reporting.yaml")
    assert {yaml_file.mapping(path)["log_every"] for path in reporting} == {3}


def test_a_killed_execution_is_no_obstacle_and_a_living_one_is_named(checkout: Path) -> None:
    grid = grid_of(checkout)
    data = next(data for data in grid.data if data.startswith("mqar"))
    made = checkout / f"results/smoke/data/{data}/data.json"
    slow = checkout / "workflow/scripts/logged"
    slow.write_text('#!/bin/sh\nsleep "${SLOW:-0}"\nfor out; do :; done\necho {} > "$out/data.json"\n')
    command = ["snakemake", str(made.relative_to(checkout)), "--config", "scale=smoke"]
    there = environment(checkout, SLOW="60")
    with (checkout / "said.txt").open("w") as said:
        first = subprocess.Popen(command, cwd=checkout, env=there, stdout=said, stderr=said, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not list(checkout.glob(".snakemake/locks/*.output.lock")):
            assert first.poll() is None and time.monotonic() < deadline, (checkout / "said.txt").read_text()
            time.sleep(0.05)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # which a cluster sends to every process of a job
            first.send_signal(number)
        refused = call(checkout, *command, status=1).splitlines()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert re.fullmatch(
        rf"error: {checkout}/.snakemake: is in use by process {first.pid} on \S+ since \S+; wait .*", refused[-1]
    )
    assert not any("lock" in line or "Exception" in line for line in refused)
    assert list(checkout.glob(".snakemake/locks/*")) and not made.is_file()
    call(checkout, *command)
    assert made.is_file() and not list(checkout.glob(".snakemake/locks/*"))


def test_whatever_is_asked_for_first_finds_the_files_of_the_plan(checkout: Path) -> None:
    (checkout / "workflow/scripts/logged").write_text("#!/bin/sh\nexit 3\n")
    said = snakemake(checkout, "results/records/smoke/mqar_cliff.jsonl.gz", status=1)  # by its first job
    assert "MissingInput" not in said and "Error in rule prepare" in said


@contextlib.contextmanager
def other_content(path: Path) -> Iterator[None]:
    """The file holds something else for a while, and is then as if it had not been touched."""
    content, before = path.read_bytes(), path.stat()
    path.write_text("something else\n")
    yield
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("scale", ["cpu", "smoke", "h100"])
def test_no_wildcard_holds_what_a_cluster_job_cannot_read_back(shared: Path, scale: str) -> None:
    grid = grid_of(shared, scale)
    for study, runs in grid.runs.items():
        assert runs, f"{study} has no run at scale {scale}"
        for name in [study, *runs, *grid.choices[study], *grid.data]:
            assert re.fullmatch(r"[^/=,]+", name)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    seeds:", "    sedes: 1\n    seeds:", "sedes"),
        ("scale: cpu", "scale: cpu\n__use_yte__: true", "__use_yte__"),
        ("scale: cpu", "scale: 'x; touch stolen; y'", "scale"),
    ],
)
def test_bad_parameters_are_told_in_one_sentence(checkout: Path, old: str, new: str, told: str) -> None:
    file = checkout / "params.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    before = contents(checkout)
    output = call(checkout, "snakemake", "--dry-run", "draft", status=1)
    assert told in output
    assert "Traceback" not in output
    assert contents(checkout) == before


def test_a_scale_that_is_a_command_or_a_path_is_refused(shared: Path) -> None:
    before = contents(shared)
    output = call(shared, "snakemake", "draft", "--config", "scale=x; touch stolen; $(touch stolen)/../../evil", status=1)
    assert "scale" in output and "Traceback" not in output
    assert contents(shared) == before


@pytest.mark.parametrize("name", sorted(rules()))
def test_every_rule_says_what_it_needs(name: str) -> None:
    body = rules()[name]
    assert "\n    log:" in body
    assert "retries:" not in body, "it would also retry inside a cluster's allocation"
    assert "gpus=" not in body, "the plugin's resource is called gpu"
    if "localrule: True" not in body:
        for word in ("benchmark:", "threads:", "runtime=", "mem_mb="):
            assert word in body


@pytest.mark.parametrize("name", rules())
def test_no_input_is_taken_for_old(name: str) -> None:
    """Whatever is made again makes what depends on it stale."""
    assert "ancient(" not in rules()[name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_tree_that_cannot_be_written_to_is_told_in_one_sentence(checkout: Path) -> None:
    checkout.chmod(0o555)
    try:
        output = snakemake(checkout, "--dry-run", "draft", status=1)
    finally:
        checkout.chmod(0o755)
    assert f"error: {checkout}: cannot be written to" in output and "Traceback" not in output


def test_a_study_without_a_section_is_told_before_anything_trains(checkout: Path) -> None:
    grid_of(checkout)
    (checkout / "paper/sections/mqar_cliff.tex").unlink()
    output = snakemake(checkout, "--dry-run", "draft", status=1)
    assert "error: paper/sections/mqar_cliff.tex: no such file; the paper has a section for every study" in output
    assert "Traceback" not in output


def test_data_is_prepared_again_when_a_file_of_the_user_s_changes() -> None:
    """No shipped scale reads one, so that no graph shows it."""
    assert '"config.yaml", "prepare.code", "local.json"' in rules()["prepare"]


def test_links_to_the_profiles() -> None:
    assert os.readlink(ROOT / "slurm") == "workflow/profiles/slurm"
    assert os.readlink(ROOT / "profiles") == "workflow/profiles"
    for profile in ("default", "slurm"):
        assert (ROOT / "profiles" / profile / "profile.yaml").is_file()


def test_stages_of_dvc(checkout: Path) -> None:
    stages = yaml_file.mapping(ROOT / "dvc.yaml")["stages"]
    studies = params()["studies"]
    assert not set(studies) & set((ROOT / "dvc.yaml").read_text().replace("study@mqar_cliff", "").split("/")), (
        "no list of studies"
    )
    targets = {"all", "data", *(rules())}
    for stage in (stages["data"], stages["study"]["do"], stages["paper"]):
        allowed = stage["cmd"].partition("--allowed-rules")[2].split()
        assert set(allowed) - {"study_${key}"} <= targets
    call(checkout, "git", "init", "--quiet")
    names = call(checkout, "dvc", "stage", "list", "--name-only").split()
    assert sorted(names) == sorted(["data", "paper", *(f"study@{study}" for study in studies)])


@pytest.mark.parametrize(("scale", "told"), [("smok", "did you mean 'smoke'"), ("x; touch stolen; ../evil", "scale")])
def test_reproduce_checks_before_it_moves_anything(checkout: Path, scale: str, told: str) -> None:
    """Its environment is the one of the tests: `make setup` has nothing to do."""
    (checkout / "Makefile").write_text("setup:\n\t@true\n")
    (checkout / ".venv").symlink_to(BIN.parent)
    shutil.copy(ROOT / "reproduce.sh", checkout)
    (checkout / "results/smoke/mqar_cliff").mkdir(parents=True)
    (checkout / "results/smoke/mqar_cliff/mine.txt").write_text("mine")
    before = {name: found for name, found in contents(checkout).items() if "/logs/" not in name}
    done = run(checkout, "./reproduce.sh", SCALE=scale)
    assert done.returncode != 0
    assert told in done.stdout
    assert {name: found for name, found in contents(checkout).items() if "/logs/" not in name} == before


def test_environments_pin_the_same_versions() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert "://" not in constraints
    pins = {f"{name}=={version}" for name, version in re.findall(r"^([\w.-]+)==([\w.+-]+)", constraints, flags=re.M)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "envs/cpu/environment.yaml").read_text())["dependencies"][-1]["pip"]
    assert set(conda) <= pins
    wanted = {re.split(r"[><=;\[ ]", requirement)[0] for requirement in project["dependencies"]}
    assert {pin.split("==")[0] for pin in conda} == wanted
    for extra in ("workflow", "dev"):
        names = {re.split(r"[><=;\[ ]", r)[0].lower() for r in project["optional-dependencies"][extra]}
        assert names <= {pin.split("==")[0] for pin in pins}


def said(log: Path) -> list[str]:
    """The lines of a log without their time stamps."""
    return [line[len("2000-01-01 00:00:00 ") :] for line in log.read_text().splitlines()]


def test_log_is_stamped_and_keeps_the_exit_status(tmp_path: Path) -> None:
    log = tmp_path / "deep/run.log"
    program = "import sys; print('to out'); print('to err', file=sys.stderr); sys.exit(3)"
    done = subprocess.run([ROOT / "workflow/scripts/logged", log, sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 3
    command, out, err, end = said(log)
    assert command.startswith("+ ") and re.fullmatch(r"exit status 3 after \d+ s", end)
    assert {out, err} == {"to out", "to err"}
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in log.read_text().splitlines())


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGXCPU"])
def test_log_outlives_the_signal_that_stops_the_command(tmp_path: Path, name: str, once: bool) -> None:
    """A cluster signals every process of a job; the training still has to write that it saved a checkpoint."""
    log = tmp_path / "run.log"
    program = (
        "import os, signal, sys, time\n"
        "def stop(*_): time.sleep(0.3); print('saved'); sys.exit(7)\n"
        f"signal.signal(signal.{name}, stop); os.kill(os.getpid(), signal.SIGUSR1)\n"  # as before it can answer
        "print('ready'); time.sleep(60)"
    )
    command = [ROOT / "workflow/scripts/logged", log, sys.executable, "-c", program]
    if once:  # as in a job of a cluster
        command = [ROOT / "workflow/scripts/once", ROOT / "params.yaml", "--", tmp_path / "none", "--", *command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not (log.is_file() and "ready" in said(log)):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        if not once:
            os.killpg(process.pid, signal.SIGUSR1)
        os.killpg(process.pid, getattr(signal, name))
        assert process.wait(30) == 7
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "saved" in said(log)


def test_log_of_a_command_that_outlived_its_workflow_is_another_file(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    command = [ROOT / "workflow/scripts/logged", log]
    with subprocess.Popen([*command, "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as former:
        assert former.stdin is not None
        former.stdin.write(b"former\n")
        former.stdin.flush()
        deadline = time.monotonic() + 30
        while not (log.is_file() and "former" in said(log)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        subprocess.run([*command, "echo", "new"], stdout=subprocess.DEVNULL, check=True)
        former.communicate(b"former still\n")
    assert said(log)[1] == "new" and len(said(log)) == 3 and "\0" not in log.read_text()
