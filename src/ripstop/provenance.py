"""Where a result comes from: digests of configuration and data, the commit, library versions, the device."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from ripstop.release.released import drawn_at

PACKAGE = Path(__file__).parent
LIBRARIES = (
    "torch",
    "numpy",
    "triton",
    "mamba-ssm",
    "causal-conv1d",
    "flash-attn",
    "fla-core",
    "torchao",
    "tokenizers",
    "transformers",
    "datasets",
    "sacrebleu",
)
MOVES_NO_NUMBER = "says what made a number"
MADE = tuple(
    f":(top,exclude){path}"
    for path in ("results", "paper/*.pdf", "paper/*.json", "paper/figures", "paper/sources", "paper/tables")
)
"""What the workflow writes itself while it runs, as git pathspecs."""


def digest(text: str | bytes) -> str:
    """First 16 hex digits of the SHA-256."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. `OSError` names the file, also where it cannot be read to its end."""
    with open(path, "rb") as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def source_key() -> str:
    """Digest of the bytes of the whole package: cheap, and different whenever any digest of code could be."""
    return digest(files_digest("**/*.py") + files_digest("**/*.j2"))


def files_digest(pattern: str) -> str:
    """Digest of names and bytes of the package's files that match `pattern`."""
    files = sorted(PACKAGE.glob(pattern))
    return digest(b"\0".join(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() for path in files))


def commit() -> str:
    """The commit of the checkout; `-dirty` where tracked files differ from it, but for what the workflow writes itself while it
    runs; `unknown` outside a checkout. In a released archive, the commit at which its paper was drawn."""
    if released := drawn_at(PACKAGE.parents[1]):
        return released
    git = ["git", "-C", str(PACKAGE)]
    changed = ["diff", "--name-only", "HEAD", "--", ":/", *MADE]
    try:
        name = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        differs = subprocess.run([*git, *changed], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if differs else name


def versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries that can move a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache
def processor() -> str:
    """Name of the CPU."""
    if sys.platform == "linux" and os.access("/proc/cpuinfo", os.R_OK):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"
