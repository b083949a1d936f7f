"""Programs beside Python: git, the workflow, DVC, LaTeX, and the environment of COMET."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ripstop.doctor.finding import Finding
from ripstop.doctor.packages import checkout
from ripstop.paper.pdf import USED, why_no_latex

LINUX = sys.platform == "linux"
GIT = "sudo apt-get install git" if LINUX else "conda install -c conda-forge git"
PAPER = (
    "xargs sudo apt-get install --yes < envs/paper/debian.txt"
    if LINUX
    else "conda env create -n ripstop-paper -f envs/paper/environment.yaml"
)


def git() -> Iterator[Finding]:
    if shutil.which("git") is None:
        said = "is not installed: records carry no commit, and no claim can be told to be registered"
        yield Finding("git", "note", said, GIT)
        return
    version = _said(["git", "--version"])
    root = checkout()
    inside = root is not None and _works(["git", "-C", str(root), "rev-parse", "HEAD"])
    said = version if inside else f"{version}; no checkout with a commit here, so records carry none"
    yield Finding("git", "ok" if inside else "note", said)


def dvc() -> Iterator[Finding]:
    if shutil.which("dvc") is None:
        said = "is not on the PATH; it keeps results and fetches them on a fresh clone, and nothing else needs it"
        yield Finding("dvc", "note", said, "pip install -c constraints.txt dvc")
        return
    root = checkout()
    there = root is not None and (root / ".dvc").is_dir()
    yield Finding("dvc", "ok" if there else "note", f"at {shutil.which('dvc')}", "" if there else "git checkout -- .dvc")


def latex() -> Iterator[Finding]:
    """Not only whether it is there: a page with the packages of the paper is made."""
    root = checkout()
    if root is None:
        yield Finding("latex", "note", "paper/main.tex is not here, so there is no paper to make")
        return
    source = root / "paper" / "main.tex"
    why = why_no_latex(source)
    if why:
        yield Finding("latex", "note", why.partition("; install")[0].rstrip("."), PAPER)
        return
    lines = [line for line in source.read_text(encoding="utf-8").splitlines() if USED.match(line)]
    page = "\n".join(["\\documentclass{article}", *lines, "\\begin{document}$x$ \\textbf{ripstop}\\end{document}", ""])
    with tempfile.TemporaryDirectory(prefix="ripstop-doctor-") as folder:
        Path(folder, "page.tex").write_text(page, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=60)
        if done.returncode or not Path(folder, "page.pdf").is_file():
            errors = [line for line in done.stdout.splitlines() if line.startswith("!")] or done.stdout.splitlines()[-1:]
            yield Finding("latex", "note", f"makes no page ({errors[0] if errors else done.returncode})", PAPER)
            return
    yield Finding("latex", "ok", f"makes a page with the paper's {len(lines)} packages")


def comet() -> Iterator[Finding]:
    """Only a study of translation asks for it, and its column says so where it is missing."""
    root = checkout()
    python = root and root / ".venv-comet" / "bin" / "python"
    if python is None or not python.is_file():
        yield Finding("comet", "note", "not set up: columns of COMET say that it was not run", "envs/comet/setup")
    elif not _works([str(python), "-c", "import comet"]):
        yield Finding("comet", "note", f"does not import in {python}: columns of COMET have no number", "envs/comet/setup")
    else:
        yield Finding("comet", "ok", "its own environment is in .venv-comet")


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30).stdout.strip()


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
