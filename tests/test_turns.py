"""A training that meets another one of its run: waits, and trains what that one left, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from training.test_lock import holder
from training.test_train import lay_out

from ripstop import turns
from ripstop.training.lock import InUseError, Lock
from ripstop.training.train import LOCK, train
from ripstop.turns import in_turn


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PAUSE", 0.01)


def test_who_meets_nobody_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder, data = lay_out(tmp_path)
    for _ in range(2):  # as without --wait: again where it was trained before
        in_turn(folder, data, lambda: train(folder, data))
        assert "starting at step 0 of 9" in capsys.readouterr().out


def test_who_waits_goes_on_where_the_other_one_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder, data = lay_out(tmp_path)
    with holder(folder / LOCK) as process:
        thread = threading.Timer(0.3, process.communicate, [""])
        thread.start()
        in_turn(folder, data, lambda: train(folder, data))
        thread.join()
    said = capsys.readouterr().out
    assert said.startswith(f"{folder}: is in use by process {process.pid} on ")
    assert said.count("; this one waits until it has ended\n") == 1 and "starting at step 0 of 9" in said
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("left", ["its results", "another model", "results of other code"])
def test_what_the_other_one_finished_is_taken_where_it_is_this_training_s(tmp_path: Path, left: str) -> None:
    _, folder, data = lay_out(tmp_path)
    trained: list[str] = []
    with holder(folder / LOCK) as process:

        def finish() -> None:
            other = tmp_path / "other"
            other.mkdir()
            for path in folder.iterdir():
                (other / path.name).write_bytes(path.read_bytes())
            if left == "results of other code":
                (other / "train.code").write_text("other\n")
            train(other, data)
            for name in ("model.safetensors", "training.json"):
                (other / name).rename(folder / name)
            if left == "another model":
                (folder / "model.safetensors").write_bytes(b"another")
            process.communicate("")

        thread = threading.Timer(0.1, finish)
        thread.start()
        in_turn(folder, data, lambda: trained.append("trained"))
        thread.join()
    assert trained == ([] if left == "its results" else ["trained"])


def test_who_was_slower_waits_again(tmp_path: Path) -> None:
    _, folder, data = lay_out(tmp_path)
    tried: list[int] = []

    def beaten_once() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise InUseError("another one that waited was quicker")

    in_turn(folder, data, beaten_once)
    assert len(tried) == 2


def test_the_first_rank_of_the_same_launch_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder, data = lay_out(tmp_path)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    trained: list[str] = []
    with Lock(folder / LOCK):
        in_turn(folder, data, lambda: trained.append("while held"))
    assert trained == ["while held"]
    with Lock(folder / LOCK):
        owner = json.loads((folder / LOCK).read_text())
        (folder / LOCK).write_text(json.dumps(owner | {"launch": "b"}))
        thread = threading.Thread(target=in_turn, args=(folder, data, lambda: trained.append("after")))
        thread.start()
        thread.join(0.2)
        assert trained == ["while held"]
    thread.join()
    assert trained == ["while held", "after"]


def test_by_hand_it_is_refused_and_with_wait_not(tmp_path: Path) -> None:
    _, folder, data = lay_out(tmp_path)
    command = [sys.executable, "-m", "ripstop", "train", str(folder), "--data", str(data)]
    there = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with holder(folder / LOCK) as process, subprocess.Popen([*command, "--wait"], env=there, text=True, stdout=-1) as waiting:
        assert waiting.stdout is not None and "this one waits" in waiting.stdout.readline()
        refused = subprocess.run(command, env=there, capture_output=True, text=True)
        assert refused.returncode == 2 and f"is in use by process {process.pid}" in refused.stderr
        process.communicate("")
        assert "results in" in waiting.communicate()[0]
    assert waiting.returncode == 0
