"""One archive of a commit: code, configuration, records, the rendered paper, verdicts and a checksum of each file.

The same commit and the same rendered paper give the same bytes: files in the order of their names, with the time of the commit,
nobody's user and nobody's permissions.

    tar -xzf ripstop-0.1.0-cpu.tar.gz && cd ripstop-0.1.0-cpu
    sha256sum --check --quiet SHA256SUMS      # what was packed is what is here
    snakemake all --allowed-rules all render assemble pdf publish     # the paper, with all that it prints, from the records
    sha256sum --check --quiet SHA256SUMS      # and they are the same
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path

from ripstop.claims.recorded import recorded_verdicts
from ripstop.config import ConfigError
from ripstop.files import read_text, replacing
from ripstop.paper.assemble import CONTENTS, PDF
from ripstop.plan import Plan
from ripstop.release.released import FILE

MOVES_NO_NUMBER = "it packs what was printed"

SUMS = "SHA256SUMS"


def build(grid: Plan, out: Path | None = None, root: Path = Path()) -> Path:
    """Write the archive of the commit at hand, `build/ripstop-<version>-<scale>.tar.gz` unless told.

    `ConfigError` where tracked files differ from the commit, a study has no records in git, or the paper is not rendered.
    """
    version = importlib.metadata.version("ripstop")
    name = f"ripstop-{version}-{grid.scale}"
    out = root / "build" / f"{name}.tar.gz" if out is None else out
    tracked = _tracked(root)
    for study in grid.studies:
        path = f"results/records/{grid.scale}/{study}.jsonl.gz"
        if path not in tracked:
            made = f"`snakemake study_{study}` makes it, then commit it"
            raise ConfigError(f"{path}: is not in git, so {study} could not be drawn from the archive; {made}")
    if not recorded_verdicts(root / "paper/verdicts.json", grid.scale):
        recorded = "record them with `python -m ripstop verify --record`, then commit"
        raise ConfigError(f"paper/verdicts.json: holds no verdicts of scale {grid.scale}; {recorded}")
    rendered, drawn_at = _rendered(grid.folder(root) / "paper")
    paths = {*tracked, *(str(path.relative_to(root)) for path in rendered)}
    content = {path: (root / path).read_bytes() for path in sorted(paths) if not (root / path).is_symlink()}
    links = {path: os.readlink(root / path) for path in sorted(paths) if (root / path).is_symlink()}
    commit, seconds = _git(root, "show", "-s", "--format=%H %ct", "HEAD").split()
    said = {"version": version, "scale": grid.scale, "commit": commit, "drawn_at": drawn_at}
    content[FILE] = (json.dumps(said, indent=1) + "\n").encode()
    content[SUMS] = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in content.items()).encode()
    programs = {path for path in content if path in paths and (root / path).stat().st_mode & 0o100}
    with replacing(out) as temporary:
        _pack(temporary, name, content, links, programs, int(seconds))
    return out


def _tracked(root: Path) -> list[str]:
    """Paths of the commit at hand, which the files here have to be."""
    changed = [line[3:] for line in _git(root, "status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ConfigError(f"{changed[0]}{more}: differs from the commit, and an archive is of a commit; commit it first")
    return _git(root, "ls-files", "-z").split("\0")[:-1]


def _rendered(paper: Path) -> tuple[list[Path], str]:
    """The files of the paper as it was put together, and at which commit."""
    again = "render the paper with `make redraw`, then run `release` again"
    try:
        said = json.loads(read_text(paper / CONTENTS))
        files, commit = [paper / name for name in said["files"]], str(said["commit"])
    except (ConfigError, ValueError, TypeError, KeyError):
        raise ConfigError(f"{paper / CONTENTS}: is not there, or of an older version; {again}") from None
    if commit.endswith("-dirty") or commit == "unknown":
        raise ConfigError(f"{paper / CONTENTS}: was drawn at a commit that is {commit}; commit everything and {again}")
    files += [paper / name for name in (CONTENTS, PDF)]
    for path in files:
        if not path.is_file():
            raise ConfigError(f"{path}: is not there; {again}")
    return files, commit


def _pack(
    path: Path, folder: str, content: Mapping[str, bytes], links: Mapping[str, str], programs: Collection[str], seconds: int
) -> None:
    with (
        open(path, "wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=seconds) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in content.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mtime, member.mode = len(data), seconds, 0o755 if name in programs else 0o644
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.type, member.linkname, member.mtime, member.mode = tarfile.SYMTYPE, target, seconds, 0o777
            archive.addfile(member)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    except OSError:
        raise ConfigError("git is not installed, and an archive is of a commit; install it") from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"git: {error.stderr.strip()}; an archive is of a commit, so run `release` in a clone") from None
