"""Too little memory, too few handles, wrong clocks, processes that are stopped or in each other's way."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import commands, injected
from faults.conftest import ROOT, Tree
from faults.test_disks import numbers

LONG = ("--set", "training.steps=500")
"""Seconds of it."""


def begun(tree: Tree, *arguments: str) -> commands.Command:
    """A training that is at work."""
    training = commands.Command(tree.root, "train", tree.run, *arguments)
    wait(lambda: "  loss " in training.said() and any(tree.here.glob("heartbeats/*.json")))
    return training


def wait(for_what: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not for_what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_too_little_memory_is_one_sentence_and_costs_no_result(fresh: Tree, measured: Tree) -> None:
    large = ("--set", "training.tokens_per_step=400000", "training.steps=2")
    fault = functools.partial(injected.memory, 100_000_000)
    sentence = commands.run(fresh.root, "train", fresh.run, *large, fault=fault).sentence
    assert "the memory does not suffice; lower training.tokens_per_step" in sentence
    commands.work(fresh.root, "train", fresh.run)
    assert numbers(fresh) == numbers(measured)


def test_too_few_handles_at_any_moment(fresh: Tree, measured: Tree) -> None:
    """One more each time, until it ends well."""
    told = set()
    for more in range(40):
        ended = commands.run(fresh.root, "train", fresh.run, fault=functools.partial(injected.open_files, more))
        if ended.status == 0:
            break
        told.add(ended.sentence)
    assert ended.status == 0 and numbers(fresh) == numbers(measured)
    assert told and all("too many files are open" in sentence.lower() for sentence in told)


@pytest.mark.parametrize(
    "clock",
    [
        pytest.param(functools.partial(injected.clock, -1e9), id="decades late"),
        pytest.param(functools.partial(injected.clock, 3e9), id="a century early"),
        pytest.param(functools.partial(injected.jumping_clock, 1e6), id="jumping"),
    ],
)
def test_a_wrong_clock_moves_no_number_and_hides_no_end(clock: Callable[[], None], fresh: Tree, measured: Tree) -> None:
    assert commands.run(fresh.root, "train", fresh.run, fault=clock).status == 0
    assert numbers(fresh) == numbers(measured)
    rows = [json.loads(line) for line in (fresh.here / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows and all(0 <= row[name] < 1000 for row in rows for name in ("seconds", "seconds_left"))
    for look in (None, clock):  # with a right clock, too
        watched = commands.run(fresh.root, "watch", fresh.run, "--once", fault=look)
        assert watched.status == 0 and "finished" in watched.said


@pytest.mark.parametrize("seconds", [-1e9, 1e9])
def test_a_clock_that_jumps_between_two_sessions_hides_no_checkpoint(seconds: float, fresh: Tree, measured: Tree) -> None:
    """The newer checkpoint may have the older time stamp."""
    (fresh.here / "reporting.yaml").write_text("checkpoint_every: 1\nlog_every: 10\n", encoding="utf-8")
    fault = functools.partial(injected.sent_after_checkpoints, 3, signal.SIGTERM)
    stopped = commands.run(fresh.root, "train", fresh.run, fault=fault)
    assert stopped.status == 128 + signal.SIGTERM
    newest = max((fresh.here / "checkpoints").glob("step-*"))
    at = newest.stat().st_mtime + seconds
    os.utime(newest, (at, at))
    said = commands.work(fresh.root, "train", fresh.run)
    assert f"from {newest.relative_to(fresh.root)}" in said and numbers(fresh) == numbers(measured)


def test_a_stopped_training_keeps_its_folder_is_seen_and_goes_on(fresh: Tree, tmp_path: Path) -> None:
    """SIGSTOP, as a cluster suspends a job. Nobody else gets its folder, and after SIGCONT it ends as an undisturbed one."""
    other = fresh.at(Path(shutil.copytree(fresh.root, tmp_path / "undisturbed")))
    training = begun(fresh, *LONG)
    os.kill(training.pid, signal.SIGSTOP)
    try:
        sentence = commands.run(fresh.root, "train", fresh.run).sentence
        assert f"is in use by process {training.pid} on " in sentence and "wait until it has ended" in sentence
        late = commands.run(fresh.root, "watch", fresh.run, "--once", fault=functools.partial(injected.clock, 3600))
        assert "silent: no beat of rank 0" in late.said
    finally:
        os.kill(training.pid, signal.SIGCONT)
    commands.work(other.root, "train", other.run, *LONG)
    assert training.end().status == 0 and numbers(fresh) == numbers(other)


def test_a_killed_training_leaves_no_lock_that_holds(fresh: Tree, measured: Tree) -> None:
    training = begun(fresh, *LONG)
    os.kill(training.pid, signal.SIGKILL)
    assert training.end().status == -signal.SIGKILL and (fresh.here / "training.lock").is_file()
    commands.work(fresh.root, "train", fresh.run)
    assert numbers(fresh) == numbers(measured) and not (fresh.here / "training.lock").exists()


def test_a_working_directory_that_is_gone_is_one_sentence(fresh: Tree) -> None:
    named = {
        ("train", fresh.run): f"{fresh.run}/config.yaml",
        ("plan",): "params.yaml",
        ("prepare", fresh.data): f"{fresh.data}/config.yaml",
        ("watch", fresh.run): str(fresh.run),
    }
    for command, file in named.items():
        assert commands.run(fresh.root, *command, fault=injected.gone).sentence.startswith(f"{file}: ")
    commands.work(fresh.root, "train", fresh.root / fresh.run)


def test_a_cache_that_is_a_file_costs_no_plan(planned: Tree, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x", encoding="utf-8")
    assert "1 runs" in commands.work(planned.root, "plan", RIPSTOP_CACHE=str(tmp_path / "cache"))


@pytest.mark.parametrize("lost", ["paper/templates/table.tex.j2", "paper/templates", "evaluation/pronouns.csv"])
def test_a_file_of_the_package_that_is_missing_is_named(lost: str, tmp_path: Path) -> None:
    """As an installation that was copied by its Python files alone."""
    package = tmp_path / "src/ripstop"
    shutil.copytree(ROOT / "src/ripstop", package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    use = {
        "paper": "from ripstop.paper.tables import Table; Table(['a'], [['b']], 'c').latex('d')",
        "evaluation": "from ripstop.evaluation.pronoun_items import embedded; embedded()",
    }[lost.partition("/")[0]]
    code = (
        "import sys, typer\nfrom ripstop import ending\napp = typer.Typer()\n@app.command()\ndef go():\n"
        f"    {use}\nsys.exit(ending.run(app))"
    )
    there = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=there, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode and "Traceback" not in done.stderr, done.stderr
    assert lost.rpartition("/")[2] in done.stderr
