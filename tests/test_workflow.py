"""The workflow: its graph at the smallest scale, its profiles, what makes a job stale, DVC's stages and bad input."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from ripstop.params import load
from ripstop.plan import plan

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
    for part in PARTS:
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def call(folder: Path, *command: str, status: int = 0) -> str:
    """Output of a command that must end with `status`."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("SNAKEMAKE_PROFILE", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def snakemake(folder: Path, *arguments: str, status: int = 0) -> str:
    return call(folder, "snakemake", *arguments, "--config", "scale=smoke", status=status)


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, as a dry run counts them."""
    table = output.partition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.M)}


def params() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def rules() -> dict[str, str]:
    """Rule -> its text, of every rule with a command."""
    found = {}
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for name, body in re.findall(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", path.read_text(), flags=re.M):
            if "shell:" in body:
                found[name] = body
    return found


def test_graph_of_the_smallest_scale(checkout: Path) -> None:
    counted = jobs(snakemake(checkout, "--dry-run", "draft"))
    grid = plan(load(checkout / "params.yaml", scale="smoke"), root=checkout)
    runs = sum(len(names) for names in grid.runs.values())
    data = sum(len(set(names.values())) for names in grid.runs.values())
    assert counted["train"] == counted["evaluate"] == runs > 0
    assert counted["prepare"] == data
    assert counted["collect"] == counted["figure"] == counted["table"] == counted["numbers"] == len(params()["studies"])
    assert not {"paper_tables", "paper_figures", "paper_main"} & set(counted), "a draft must leave paper/ alone"


def test_profile_of_the_cluster(checkout: Path) -> None:
    output = call(checkout, "snakemake", "--profile", "slurm", "--dry-run", "paper/tables", "--config", "scale=smoke")
    assert "Using profiles slurm" in output
    assert jobs(output)["paper_tables"] == 1
    assert not re.search(r"gpu=[1-9]", output), "the smallest scale asks for no GPU"


def test_only_what_changed_runs_again(checkout: Path) -> None:
    file = checkout / "params.yaml"
    values = yaml.safe_load(file.read_text())
    overlay = checkout / "workflow/scales/smoke.yaml"
    smoke = yaml.safe_load(overlay.read_text())
    smoke = {"all": smoke["all"], "mqar_cliff": smoke["mqar_cliff"] | {"seeds": [0, 1]}}
    overlay.write_text(yaml.safe_dump(smoke))
    (checkout / "workflow/scales/h100.yaml").unlink()
    file.write_text(yaml.safe_dump({"scale": "smoke", "studies": {"mqar_cliff": values["studies"]["mqar_cliff"]}}))
    for line in snakemake(checkout, "--summary", "draft").splitlines():
        if line.startswith("results/"):
            path = checkout / line.split("\t")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    snakemake(checkout, "--touch", "--forceall", "draft")

    file.write_text("# a comment\n" + file.read_text())
    source = checkout / "src/ripstop/training/config.py"
    source.write_text(source.read_text() + "\n# a comment\n")
    assert "Nothing to be done" in snakemake(checkout, "--dry-run", "draft")

    runs = len(list((checkout / "results/smoke/mqar_cliff/runs").iterdir()))
    smoke["mqar_cliff"]["seeds"] = [0, 1, 2]
    overlay.write_text(yaml.safe_dump(smoke))
    output = snakemake(checkout, "--dry-run", "draft")
    trained = re.findall(r"^rule train:\n    input: (\S+)", output, flags=re.M)
    assert len(trained) == runs // 2 > 0
    assert all("_seed-2/" in path for path in trained)
    assert jobs(output)["collect"] == jobs(output)["table"] == 1


def test_no_wildcard_holds_what_a_cluster_job_cannot_read_back(tmp_path: Path) -> None:
    for scale in ("cpu", "smoke", "h100"):
        for study, runs in plan(load(ROOT / "params.yaml", scale=scale), root=tmp_path).runs.items():
            assert runs, f"{study} has no run at scale {scale}"
            for name in [study, *runs, *runs.values()]:
                assert re.fullmatch(r"[^/=,]+", name)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    seeds:", "    sedes: 1\n    seeds:", "sedes: unknown key; did you mean 'seeds'"),
        ("scale: cpu", "scale: [cpu", "params.yaml:8: not YAML"),
    ],
)
def test_bad_parameters_are_told_in_one_sentence(checkout: Path, old: str, new: str, told: str) -> None:
    file = checkout / "params.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    output = snakemake(checkout, "--dry-run", "draft", status=1)
    assert told in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", sorted(rules()))
def test_every_rule_says_what_it_needs(name: str) -> None:
    body = rules()[name]
    assert "\n    log:" in body
    assert "retries:" not in body, "it would also retry inside a cluster's allocation"
    assert "gpus" not in body, "the plugin's resource is called gpu"
    if "localrule: True" not in body:
        for word in ("benchmark:", "threads:", "runtime=", "mem_mb="):
            assert word in body


def test_links_to_the_profiles() -> None:
    assert os.readlink(ROOT / "slurm") == "workflow/profiles/slurm"
    assert os.readlink(ROOT / "profiles") == "workflow/profiles"
    for profile in ("default", "slurm"):
        assert (ROOT / "profiles" / profile / "profile.yaml").is_file()


def test_stages_of_dvc(checkout: Path) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    values = params()
    tracked = {f"results/${{scale}}/{study}" for study in values["studies"]}
    assert tracked == {dep for dep in stages["paper"]["deps"] if dep.startswith("results/")}
    targets = {"all", *(rules())}
    for stage in (stages["study"]["do"], stages["paper"]):
        allowed = stage["cmd"].partition("--allowed-rules")[2].split()
        assert set(allowed) - {"study_${key}"} <= targets
    call(checkout, "git", "init", "--quiet")
    names = call(checkout, "dvc", "stage", "list", "--name-only").split()
    assert sorted(names) == sorted(["paper", *(f"study@{study}" for study in values["studies"])])


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


def test_log_outlives_the_signal_that_stops_the_command(tmp_path: Path) -> None:
    """A cluster signals every process of a job; the training still has to write that it saved a checkpoint."""
    log = tmp_path / "run.log"
    program = (
        "import signal, sys, time\n"
        "def stop(*_): time.sleep(0.3); print('saved'); sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, stop); print('ready'); time.sleep(60)"
    )
    command = [ROOT / "workflow/scripts/logged", log, sys.executable, "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not (log.is_file() and "ready" in said(log)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 7
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "saved" in said(log)
