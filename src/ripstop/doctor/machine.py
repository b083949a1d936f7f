"""The machine: Python, processors, memory, disks, and the GPU that there is or is not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from ripstop import provenance
from ripstop.doctor.finding import Finding, Level, examine, reason

GB = 1e9
MEMORY, DISK = (1.0 * GB, 3.0 * GB), (0.5 * GB, 5.0 * GB)
"""Below the first nothing of scale cpu works, below the second not all of it: a job asks for 3 GB (`runs.Resources`)."""


def python() -> Iterator[Finding]:
    """The interpreter, and the package that it runs."""
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)  # as pyproject.toml and envs/cpu/setup say
    remedy = "" if fits else "make setup PYTHON=python3.12"
    needs = "" if fits else ", and ripstop needs 3.11, 3.12 or 3.13"
    yield Finding("python", "ok" if fits else "FAIL", f"{version} at {sys.executable}{needs}", remedy)
    yield Finding("ripstop", "ok", f"at {provenance.PACKAGE}, commit {provenance.commit()}")


def processors() -> Iterator[Finding]:
    threads = os.environ.get("OMP_NUM_THREADS")
    told = f"OMP_NUM_THREADS={threads}" if threads else "OMP_NUM_THREADS is not set: make and the workflow set it to 1"
    usable = f"{provenance.cpus()} of {os.cpu_count()} to be used here"
    yield Finding("processors", "ok", f"{provenance.processor()}, {usable}; {told}")


def memory() -> Iterator[Finding]:
    free, limit = _available(), _limit()
    said = f"{free / GB:.1f} GB to be had" + (f", at most {limit / GB:.1f} GB for this container" if limit else "")
    yield Finding("memory", *_enough(min(free, limit or free), MEMORY, said, "a job of scale cpu asks for 3 GB"))


def disk(folder: Path | None = None) -> Iterator[Finding]:
    """Where results go, and where temporary files do."""
    here = Path.cwd() if folder is None else folder
    free = shutil.disk_usage(here).free
    level, said = _enough(
        free, DISK, f"{free / GB:.1f} GB free for results in {here}", "environment and results take some 5 GB"
    )
    if not os.access(here, os.W_OK | os.X_OK):
        level, said = "FAIL", f"{here} cannot be written to; run this where the checkout is yours"
    yield Finding("disk", level, said)
    yield from examine("temporary", _temporary, remedy="export TMPDIR=<a folder that you can write to>")


def gpu() -> Iterator[Finding]:
    """Scale cpu needs none, so that whatever is wrong with one is a note."""
    import torch

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    smi = _nvidia_smi()
    if not there:
        if not smi and not warned:
            yield Finding("gpu", "ok", "none here, and scale cpu needs none")
            return
        why = reason(warned[0].message) if warned and isinstance(warned[0].message, BaseException) else ""
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        said = f"torch uses none ({built}{'; ' + why if why else ''}), and the machine has {'; '.join(smi) or 'a driver'}"
        yield Finding("gpu", "note", said, "envs/gpu/setup")
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        driver = smi[index].rpartition(", driver ")[2] if index < len(smi) else "unknown"
        said = (
            f"{found.name}, {found.total_memory / GB:.0f} GB, capability {found.major}.{found.minor}, driver {driver}, "
            f"CUDA {torch.version.cuda}"
        )
        try:
            ones = torch.ones(64, 64, device=f"cuda:{index}", dtype=torch.bfloat16)
            assert (ones @ ones)[0, 0].item() == 64
        except Exception as error:  # as for a card newer than the build
            yield Finding(f"gpu {index}", "note", f"{said}: cannot multiply, {reason(error)}", "envs/gpu/setup")
            continue
        yield Finding(f"gpu {index}", "ok", said)


def _temporary() -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="ripstop-doctor-") as folder:
        Path(folder, "file").write_bytes(b"0" * 100_000)
        free = shutil.disk_usage(folder).free
        said = f"{free / GB:.1f} GB free for temporary files in {tempfile.gettempdir()}"
        yield Finding("temporary", "note" if free < DISK[0] else "ok", said)


def _enough(amount: float, bounds: tuple[float, float], said: str, why: str) -> tuple[Level, str]:
    level: Level = "FAIL" if amount < bounds[0] else "note" if amount < bounds[1] else "ok"
    return level, said if level == "ok" else f"{said}; {why}"


def _available() -> float:
    """Bytes of memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _limit() -> float | None:
    """Bytes that a container may use at most; None where nothing says so."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            said = Path(path).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        return float(said) if said.isdecimal() and int(said) < 2**60 else None
    return None


def _nvidia_smi() -> list[str]:
    """`name, memory, driver 580.1` of each GPU that the driver sees."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line.strip() for line in done.stdout.splitlines() if line.count(",") >= 2] if done.returncode == 0 else []
    return [", driver ".join(line.rsplit(", ", 1)) for line in lines]
