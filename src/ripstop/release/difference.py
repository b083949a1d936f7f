"""latexdiff between the papers of two archives."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from ripstop.config import ConfigError
from ripstop.files import read_text, replacing, sentence, write_text
from ripstop.paper.assemble import CONTENTS
from ripstop.paper.pdf import why_no_latex
from ripstop.release.released import FILE

MOVES_NO_NUMBER = "it compares what was printed"

NUMBER = re.compile(r"^\\ripstopnumber\{([^}]*)\}\{(.*)\}\{(.*)\}$", re.M)
STUDIES = re.compile(r"^\\newcommand\{\\studies\}\{%\n(.*?)\}$", re.M | re.S)
SECTION = re.compile(r"\\input\{(sections/[^}]*)\}%?")
VALUE = re.compile(r"\\(val|valci)\{([^}]*)\}")
SHOWN = 15
"""Lines of a failed compilation that are told."""


def difference(old: Path, new: Path, out: Path) -> Path:
    """Write `diff.tex` to `out`, and `diff.pdf` where LaTeX is installed; the better of the two.

    Both papers are made one text first, with the sections and the printed numbers in place, so that a number that moved is
    marked like a word. Tables and figures are those of the newer one; `changed` names those that differ.
    """
    if shutil.which("latexdiff") is None:
        raise ConfigError("latexdiff is not installed; on Debian it is the package latexdiff")
    with tempfile.TemporaryDirectory(prefix="ripstop-diff-") as scratch:
        papers = [_unpacked(archive, Path(scratch) / side) for archive, side in ((old, "old"), (new, "new"))]
        texts = []
        for paper, assembled in papers:
            path = assembled / "flat.tex"
            write_text(path, flat(paper, assembled))
            texts.append(path)
        marked = subprocess.run(["latexdiff", *map(str, texts)], capture_output=True, text=True, encoding="utf-8")
        if marked.returncode:
            raise ConfigError(f"latexdiff: {(marked.stderr.strip() or 'ended badly').splitlines()[-1]}")
        source = out / "diff.tex"
        write_text(source, marked.stdout)
        paper, assembled = papers[1]
        if why_no_latex(paper / "main.tex"):
            return source
        shutil.copy(source, assembled / "diff.tex")
        _compile(assembled, {"TEXINPUTS": f".:{paper}:", "BIBINPUTS": str(paper)})
        with replacing(out / "diff.pdf") as temporary:
            shutil.copy(assembled / "diff.pdf", temporary)
        return out / "diff.pdf"


def changed(old: Path, new: Path) -> list[str]:
    """Names of the tables and figures that differ between two archives, or that one of them lacks."""
    with tempfile.TemporaryDirectory(prefix="ripstop-diff-") as scratch:
        digests = []
        for archive, side in ((old, "old"), (new, "new")):
            _, assembled = _unpacked(archive, Path(scratch) / side)
            digests.append(json.loads(read_text(assembled / CONTENTS))["files"])
    names = sorted(name for name in digests[0].keys() | digests[1].keys() if name.endswith((".tex", ".pdf")) and "/" in name)
    return [name for name in names if digests[0].get(name) != digests[1].get(name)]


def flat(paper: Path, assembled: Path) -> str:
    """The paper's text with its sections and the printed numbers in place."""
    generated = read_text(assembled / "numbers.tex")
    numbers = NUMBER.findall(generated + read_text(assembled / "claims.tex"))
    printed = {kind: {name: values[i] for name, *values in numbers} for i, kind in enumerate(("val", "valci"))}
    studies = STUDIES.search(generated)
    text = read_text(paper / "main.tex").replace("\\studies\n", f"{studies.group(1) if studies else ''}\n")
    text = SECTION.sub(lambda found: read_text(paper / found.group(1)), text)
    return VALUE.sub(lambda found: printed[found.group(1)].get(found.group(2), found.group(0)), text)


def _unpacked(archive: Path, where: Path) -> tuple[Path, Path]:
    """The folders of the paper's text and of what was put together for it."""
    try:
        with tarfile.open(archive) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # which Python has from 3.11.4 on
            packed.extractall(where)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError):
        raise ConfigError(f"{archive}: is no archive of `release`, or a damaged one; `make release` makes one") from None
    except OSError as error:
        raise ConfigError(sentence(OSError(error.errno, error.strerror, str(archive)))) from None
    roots = list(where.glob(f"*/{FILE}"))
    found = [path for root in roots for path in root.parent.glob("results/*/paper")]
    if len(found) != 1:
        raise ConfigError(f"{archive}: is no archive of `release`, it has no {FILE} and rendered paper")
    return roots[0].parent / "paper", found[0]


def _compile(folder: Path, variables: Mapping[str, str]) -> None:
    command = ["latexmk", "-pdf", "-latexoption=-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "diff.tex"]
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.startswith(("!", "l."))] or done.stdout.splitlines()
        raise ConfigError(f"diff.tex does not compile: {' '.join(lines[-SHOWN:])}")
