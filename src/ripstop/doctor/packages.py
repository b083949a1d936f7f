"""The packages: those that ripstop declares, whether they import, and whether they are what constraints.txt says."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ripstop import provenance
from ripstop.doctor.finding import Finding, reason

IMPORTED_AS = {"pyyaml": "yaml", "fla-core": "fla"}
"""Packages that are imported under another name than their own."""
SETUP = "make setup"


def checkout() -> Path | None:
    """The folder of pyproject.toml and constraints.txt; None where the package was installed without them."""
    for folder in (provenance.PACKAGE.parents[1], Path.cwd()):
        if (folder / "pyproject.toml").is_file() and (folder / "constraints.txt").is_file():
            return folder
    return None


def requirements(extra: str = "") -> list[Any]:
    """What pyproject.toml, or the installed package, asks for: of an extra, or always. Those for other platforms left out."""
    from packaging.requirements import Requirement

    root = checkout()
    if root is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    else:
        every = [Requirement(line) for line in importlib.metadata.requires("ripstop") or []]
        lines = [str(one) for one in every if bool(extra) == ("extra ==" in str(one.marker))]
    asked = [Requirement(line) for line in lines]
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]


def pins() -> dict[str, str]:
    """Name -> version of constraints.txt for this Python and platform; nothing where there is none."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    root = checkout()
    if root is None:
        return {}
    found = {}
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate():
                found[str(canonicalize_name(one.name))] = str(one.specifier).removeprefix("==")
    return found


def libraries(progress: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Every package that is always needed: there, of a version that is allowed, and imported. progress: is told each name."""
    asked, pinned, other, well = requirements(), pins(), [], 0
    for one in asked:
        progress(one.name)
        install = f"pip install{' -c constraints.txt' if pinned else ''} '{one.name}{one.specifier}'"
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(one.name, "FAIL", "is not installed", install)
            continue
        try:
            importlib.import_module(IMPORTED_AS.get(one.name, one.name.replace("-", "_")))
        except (Exception, SystemExit) as error:
            again = install.replace("pip install", "pip install --force-reinstall --no-deps")
            yield Finding(one.name, "FAIL", f"{version} is installed and does not import, {reason(error)}", again)
            continue
        if not one.specifier.contains(version, prereleases=True):
            yield Finding(one.name, "FAIL", f"{version} is installed, and {one.specifier} is needed", install)
            continue
        well += 1
        if pinned and not _same(version, pinned.get(one.name)):
            other.append(f"{one.name} {version} (pinned: {pinned.get(one.name, 'nothing')})")
    said = f"{well} of {len(asked)} import, in versions that ripstop allows"
    if other:
        yield Finding("libraries", "note", f"{said}; others than in constraints.txt: {', '.join(other)}", SETUP)
    elif well:
        yield Finding(
            "libraries", "ok", said + ("; all as in constraints.txt" if pinned else "; no constraints.txt to compare")
        )


def torch_library() -> Iterator[Finding]:
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs alone"
    yield Finding("torch", "ok", f"{torch.__version__}, built for {built}, threads: {torch.get_num_threads()}")


def extra(name: str, purpose: str, level: Any) -> Iterator[Finding]:
    """What an extra asks for is installed. Nothing of it is imported. level: of what is missing."""
    missing = []
    asked = requirements(name)
    for one in asked:
        try:
            version = importlib.metadata.version(one.name)
            if not one.specifier.contains(version, prereleases=True):
                missing.append(f"{one.name}{one.specifier} ({version} is there)")
        except importlib.metadata.PackageNotFoundError:
            missing.append(one.name)
    if missing:
        pinned = "-c constraints.txt -e '." if checkout() else "'ripstop"
        yield Finding(name, level, f"for {purpose}, missing: {', '.join(missing)}", f"pip install {pinned}[{name}]'")
    else:
        yield Finding(name, "ok", f"for {purpose}: all {len(asked)} packages are installed")


def cuda_kernels() -> Iterator[Finding]:
    """The packages with kernels, on a machine with a GPU alone: all of them are optional."""
    import torch

    if torch.cuda.is_available():
        yield from _kernels(shutil.which("nvcc") or shutil.which("nvcc", path=f"{os.environ.get('CUDA_HOME', '')}/bin"))


def _kernels(nvcc: str | None) -> Iterator[Finding]:
    import torch

    lacking: list[str] = []
    there: list[str] = []
    for one in requirements("gpu"):
        try:
            version = importlib.metadata.version(one.name)
            importlib.import_module(IMPORTED_AS.get(one.name, one.name.replace("-", "_")))
        except importlib.metadata.PackageNotFoundError:
            lacking.append(f"{one.name} is not installed")
        except (Exception, SystemExit) as error:  # as one that was compiled against another torch
            lacking.append(f"{one.name} {version} does not import, {reason(error)}")
        else:
            fits = one.specifier.contains(version, prereleases=True)
            (there if fits else lacking).append(
                f"{one.name} {version}" + ("" if fits else f" is there, {one.specifier} needed")
            )
    if not lacking:
        yield Finding("cuda kernels", "ok", ", ".join(there))
        return
    toolkit = "" if nvcc else f"; to compile them, nvcc of CUDA {torch.version.cuda or '13.0'} is missing, too"
    yield Finding(
        "cuda kernels", "note", f"{'; '.join(lacking)}{toolkit}: PyTorch's own operations run instead", "envs/gpu/setup"
    )


def _same(version: str, pinned: str | None) -> bool:
    """Whether a version is the pinned one; a build of it (`2.13.0+cpu`) is."""
    return pinned is not None and (version == pinned or version.partition("+")[0] == pinned)
