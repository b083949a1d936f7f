"""Results by study through a DVC remote: real git, DVC and Snakemake on made-up results, so that nothing is trained."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_workflow import (
    ROOT,
    call,
    copy_of_checkout,
    environment,
    grid_of,
    jobs,
    make_everything_current,
    params,
    snakemake,
)

from ripstop import yaml_file
from ripstop.files import write_text

pytestmark = pytest.mark.timeout(900)
STUDIES = ("blind_start", "d_state_scaling")
"""What is pushed; the second one has choices, too."""


def git(folder: Path, *arguments: str) -> str:
    return call(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "made up")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of scale smoke, whose metrics and records git keeps as those of other scales, with results in a remote."""
    folder = copy_of_checkout(tmp_path_factory.mktemp("made") / "checkout")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    for name in (".gitignore", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    ignored = (folder / ".gitignore").read_text()
    (folder / ".gitignore").write_text(re.sub(r"(?m)^.*/smoke/\n", "", ignored))
    chosen = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(chosen.replace("scale: cpu", "scale: smoke"))
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    make_everything_current(folder)
    for path in (folder / "results/smoke").glob("*/runs/*/model.safetensors"):
        path.write_text(f"weights of {path.parent}")
    for paper in (folder / "results/smoke").glob("*/paper"):
        write_text(paper / "numbers.json", "{}")  # DVC keeps no empty folder
    for part in (folder / "results/smoke").glob("*/runs/*/parts/*"):
        write_text(part / "records.jsonl", f"{part}\n")
    remote = folder.parent / "remote"
    remote.mkdir()
    call(folder, "dvc", "remote", "add", "--default", "store", str(remote))
    stages = ["data", *(f"study@{study}" for study in STUDIES)]
    call(folder, "dvc", "commit", "--force", *stages)
    call(folder, "dvc", "push", *stages)
    commit(folder)
    return folder


@pytest.fixture
def clone(made: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "--quiet", str(made), "clone")
    return tmp_path / "clone"


def restore(folder: Path, *studies: str, status: int = 0) -> str:
    return call(folder, "workflow/scripts/restore", *studies, status=status)


def refused(folder: Path, *studies: str) -> str:
    """The one sentence of a restoration that is refused."""
    (said,) = restore(folder, *studies, status=2).strip().splitlines()
    assert said.startswith("error: ")
    return said


def use_remote(folder: Path, address: str) -> None:
    call(folder, "dvc", "remote", "modify", "--local", "store", "url", address)


@pytest.mark.parametrize("study", [pytest.param("blind_start", marks=pytest.mark.slow), "d_state_scaling"])
def test_a_restored_study_leaves_nothing_to_do(study: str, made: Path, clone: Path) -> None:
    said = restore(clone, study)
    assert [line.partition(":")[0] for line in said.splitlines()] == [study]
    assert "Nothing to be done" in snakemake(clone, "--dry-run", f"study_{study}")
    assert git(clone, "status", "--porcelain") == ""
    here, there = (root / "results/smoke" for root in (clone, made))
    wanted = {path.relative_to(there): path.read_bytes() for path in there.glob(f"{study}/runs/*/**/*") if path.is_file()}
    assert wanted and wanted == {path: (here / path).read_bytes() for path in wanted}
    fetched = {path.name for path in here.iterdir()} - {"data", "logs", "benchmarks"}
    assert fetched == {study}, "another study was fetched"
    assert restore(clone, study) == said


@pytest.mark.slow
def test_what_is_not_of_this_checkout_stays_stale_and_is_named(clone: Path) -> None:
    """The study gets another way to measure one of its parts, and another seed."""
    overlay = clone / "workflow/scales/smoke.yaml"
    smoke = yaml_file.mapping(overlay)
    smoke["blind_start"] |= {"seeds": [0, 1], "evaluation": {"recall": {"batch_size": 32}}}
    overlay.write_text(yaml_file.dump(smoke))
    said = refused(clone, "blind_start")
    assert "parts/recall" in said and "more; check out the commit" in said and "`snakemake study_blind_start`" in said
    runs = grid_of(clone).runs["blind_start"]
    again = jobs(snakemake(clone, "--dry-run", "study_blind_start"))
    first = [run for run in runs if run.endswith("seed-0")]
    parts = sum(len(job.parts) for job in runs.values())
    kept = sum(len(runs[run].parts) - 1 for run in first)
    assert (again["train"], again["evaluate"]) == (len(runs) - len(first), parts - kept)


@pytest.mark.slow
def test_a_study_that_another_checkout_drew_is_drawn_again(clone: Path) -> None:
    """What was fetched is touched, and only joined and drawn again: here that fails, for the records are made up."""
    printer = clone / "src/ripstop/paper/studies/blind_start.py"
    printer.write_text(printer.read_text() + "\nANOTHER = 1\n")
    said = restore(clone, "blind_start", status=2)
    assert "blind_start/collect: +" in said and "ripstop train" not in said and "ripstop evaluate" not in said
    assert said.splitlines()[-1].startswith("error: snakemake ended with status 1, for the reason above")


def damage_objects(remote: Path) -> None:
    objects = [path for path in remote.rglob("*") if path.is_file() and path.read_bytes().startswith(b"weights of")]
    assert objects
    for path in objects:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])


def lose_objects(remote: Path) -> None:
    for path in [path for path in remote.rglob("*") if path.is_file() and path.read_bytes().startswith(b"weights of")]:
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [damage_objects, lose_objects])
def test_a_damaged_or_incomplete_remote_is_told_and_mended_by_a_push(
    spoil: Callable[[Path], None], made: Path, clone: Path, tmp_path: Path
) -> None:
    shutil.copytree(made.parent / "remote", tmp_path / "remote")
    spoil(tmp_path / "remote")
    use_remote(clone, str(tmp_path / "remote"))
    said = refused(clone, "blind_start")
    assert (
        "lacks a part of it, or holds a damaged one; push it where the results are with `dvc push data study@blind_start`"
        in said
    )
    assert not list(clone.glob("results/smoke/*/runs/*/model.safetensors")), "a damaged file was restored"
    use_remote(clone, str(made.parent / "remote"))
    restore(clone, "blind_start")


def no_remote(folder: Path) -> None:
    call(folder, "dvc", "remote", "remove", "store")


def unmounted(folder: Path) -> None:
    use_remote(folder, str(folder / "not/mounted"))


def unknown_protocol(folder: Path) -> None:
    use_remote(folder, "ssh://127.0.0.1:1/store")


def mine(folder: Path) -> None:
    write_text(folder / "results/smoke/blind_start/mine.txt", "mine")


def without_dvc(folder: Path) -> None:
    shutil.rmtree(folder / ".dvc")


def damaged_lock(folder: Path) -> None:
    write_text(folder / "dvc.lock", "{")


def damaged_stages(folder: Path) -> None:
    (folder / "dvc.yaml").unlink()


def damaged_settings(folder: Path) -> None:
    write_text(folder / ".dvc/config.local", "[core")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no remote": (no_remote, "results/smoke/blind_start: there is no remote to fetch it from; name one with `dvc remote add"),
    "remote that is not mounted": (unmounted, r"the remote store \(.*/not/mounted\) is not there; mount it, or correct"),
    "remote that cannot be reached": (unknown_protocol, r"the remote store \(ssh://127.0.0.1:1/store\) cannot be read: "),
    "file of the user's": (
        mine,
        "results/smoke/blind_start/mine.txt: is none of the results to be restored, and would be lost",
    ),
    "damaged record of results": (
        damaged_lock,
        r"DVC: unable to read: 'dvc.lock', .*; `git checkout dvc.yaml dvc.lock` has both",
    ),
    "no stages": (damaged_stages, "DVC: 'dvc.yaml' does not exist; `git checkout dvc.yaml dvc.lock` has both"),
    "damaged settings of DVC": (
        damaged_settings,
        r".dvc/config, or config.local beside it: .*Invalid line .*; correct it by hand",
    ),
    "no DVC": (without_dvc, "is no checkout with DVC; run this where .dvc lies"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_in_the_way_is_told_and_nothing_is_lost(name: str, clone: Path) -> None:
    spoil, sentence = BROKEN[name]
    spoil(clone)
    before = {path: path.read_bytes() for path in clone.glob("results/**/*") if path.is_file()}
    assert re.search(sentence, refused(clone, "blind_start"))
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_study_without_results_and_one_that_does_not_exist_are_told(clone: Path) -> None:
    assert "study 'blind_strat' does not exist; did you mean 'blind_start'" in refused(clone, "blind_strat")
    told = "dvc.lock: holds no results of study@residual_init at scale smoke; `dvc repro study@residual_init` makes them"
    assert told in refused(clone, "residual_init")


def test_a_running_workflow_is_not_disturbed(clone: Path) -> None:
    code = "from ripstop.training.lock import Lock; from pathlib import Path; import time\n"
    code += "with Lock(Path('.snakemake/execution.lock')): print('held', flush=True); time.sleep(99)"
    (clone / ".snakemake").mkdir()
    holding = subprocess.Popen([sys.executable, "-c", code], cwd=clone, stdout=subprocess.PIPE, text=True)
    try:
        assert holding.stdout is not None and holding.stdout.readline() == "held\n"
        assert f".snakemake: is in use by process {holding.pid}" in refused(clone, "blind_start")
    finally:
        holding.kill()
        holding.wait()


@pytest.mark.slow
def test_a_killed_restoration_is_made_up_for_by_the_next(clone: Path) -> None:
    """It is killed at moments spread over its whole course."""
    restored = clone / "results/smoke/blind_start/runs"
    for wait in (0.0, 0.2, 1.5):
        command = ["workflow/scripts/restore", "blind_start"]
        going = subprocess.Popen(command, cwd=clone, env=environment(clone), start_new_session=True, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while not restored.exists() and going.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(wait)
        os.killpg(going.pid, signal.SIGKILL)
        assert going.wait() == -signal.SIGKILL, "it had ended before"
    restore(clone, "blind_start")
    assert "Nothing to be done" in snakemake(clone, "--dry-run", "study_blind_start")


def test_the_paper_is_drawn_from_the_records_alone(clone: Path) -> None:
    """Nothing but what git keeps is there: each study would be drawn, and nothing trained or measured."""
    only = ("--allowed-rules", "draft", "render", "assemble", "pdf")
    found = jobs(snakemake(clone, "--dry-run", "draft", *only))
    assert found["render"] == len(params()["studies"]) and not {"train", "evaluate", "collect", "prepare"} & found.keys()
    (clone / "results/records/smoke/swa_mla.jsonl.gz").unlink()
    said = snakemake(clone, "--dry-run", "draft", *only, status=1)
    assert "error: results/records/smoke/swa_mla.jsonl.gz: no such file, so swa_mla cannot be drawn; make it with" in said


def test_make_redraws_what_the_rules_name() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("redraw: setup")[2].partition("\n\n")[0]
    assert "snakemake all --allowed-rules all render assemble pdf publish" in recipe
