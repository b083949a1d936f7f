"""One process a folder, told by name; whoever died is in nobody's way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training.test_checkpoint import largest_file

from ripstop.config import ConfigError
from ripstop.training import lock as locks
from ripstop.training.lock import Lock

HOLDING = "import sys; from pathlib import Path; from ripstop.training.lock import Lock\nwith Lock(Path(sys.argv[1])):\n "
HOLDING += "print('held', flush=True); sys.stdin.read()"


def holder(path: Path) -> subprocess.Popen:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(path)], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_by_the_owners_name_and_the_third_enters(tmp_path: Path):
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(ConfigError) as raised, Lock(path):
            pass
        said = str(raised.value)
        assert f"{tmp_path}: is in use by process {process.pid} on {socket.gethostname()} since 20" in said
        assert "\n" not in said and path.exists()
        process.communicate("")
    assert not path.exists()
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_one_whose_owner_was_killed_is_no_obstacle(tmp_path: Path):
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
    assert path.exists()
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_who_only_looks_for_the_holder_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "lock"
    assert locks.holder(path) is None
    path.write_text(dead())
    assert locks.holder(path) is None
    with Lock(path):
        owner = locks.holder(path)
        assert owner is not None and owner["pid"] == os.getpid()
    path.touch()
    look = os.open(path, os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: fcntl.flock(look, fcntl.LOCK_UN))
    with Lock(path):
        os.close(look)


@pytest.mark.parametrize("content", [b"", b"{cut", b"[1]", b"\xff\xfe"])
def test_whatever_an_old_file_says_the_kernel_decides(tmp_path: Path, content: bytes):
    path = tmp_path / "lock"
    path.write_bytes(content)
    with Lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(ConfigError, match=re.escape(f"process {os.getpid()} on")), Lock(path):
            pass
    assert not path.exists()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has none."""

    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def dead(**changes: Any) -> str:
    """The owner that a process left which has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return json.dumps({"pid": process.pid, "host": socket.gethostname(), "started": "then", "process": "1"} | changes)


def test_a_full_disk_names_the_file_and_holds_nobody(tmp_path: Path):
    path = tmp_path / "lock"
    with largest_file(0), pytest.raises(OSError, match="File too large") as raised, Lock(path):
        pass
    assert raised.value.filename == str(path)
    with Lock(path):
        pass


def test_without_locks_the_named_owner_decides(tmp_path: Path, no_locks: None, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "lock"
    path.write_text(dead())
    with Lock(path):
        assert "its file system has no locks" in capsys.readouterr().out
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()} .*or delete {path}"), Lock(path):
            pass
    assert not path.exists()


def test_without_locks_a_number_given_anew_is_another_process(tmp_path: Path, no_locks: None):
    path = tmp_path / "lock"
    path.write_text(dead(pid=os.getpid()))  # of this number, and of another start
    with Lock(path):
        pass


def test_without_locks_another_machine_is_believed(tmp_path: Path, no_locks: None):
    path = tmp_path / "lock"
    path.write_text(dead(host="elsewhere"))
    with (
        pytest.raises(ConfigError, match=r"on elsewhere since then; wait .* or delete"),
        Lock(path),
    ):
        pass
    assert path.exists()


def test_a_pipe_in_its_place_is_told_and_not_waited_for(tmp_path: Path):
    path = tmp_path / "a.lock"
    os.mkfifo(path)
    assert locks.holder(path) is None
    with pytest.raises(FileExistsError), Lock(path):
        pass
    assert path.is_fifo()


def test_a_lock_of_another_owner_in_its_place_stays(tmp_path: Path):
    """Ours was deleted by hand, and somebody else took the folder."""
    path = tmp_path / "a.lock"
    with Lock(path):
        path.unlink()
        path.write_text("{}", encoding="utf-8")
    assert path.exists()


def test_what_its_owner_removes_as_it_is_entered_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, flock, calls = tmp_path / "a.lock", fcntl.flock, []

    def removed_first(file: int, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(how)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with Lock(path):
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid() and len(calls) == 2
    assert not path.exists()
