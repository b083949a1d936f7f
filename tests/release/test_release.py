"""An archive draws the paper again without git, anywhere, to the same bytes; and what changed between two is marked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from status import small_graph
from status.small_graph import ROOT, call

from ripstop import yaml_file
from ripstop.config import ConfigError
from ripstop.data import introductions, libreoffice_help, registry, trivia
from ripstop.data.registry import Package
from ripstop.frozen import package
from ripstop.frozen.package import Gguf
from ripstop.paper.pdf import why_no_latex
from ripstop.release.difference import changed

LATEX = pytest.mark.skipif(bool(why_no_latex(ROOT / "paper/main.tex")), reason="LaTeX is not installed")
REDRAW = ("snakemake", "all", "--allowed-rules", "all", "render", "assemble", "pdf", "publish")
BESIDE = ("Makefile", "README.md", "CITATION.cff", "LICENSE", "pyproject.toml", "constraints.txt")

pytestmark = pytest.mark.timeout(900)  # a busy machine


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=one", "-c", "user.email=one@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "add", "-f", "results/records", "results/metrics")  # scale smoke leaves nothing in git by itself
    git(folder, "commit", "-qm", "results")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which everything ran and is committed, its verdicts among it."""
    folder = small_graph.make(tmp_path_factory.mktemp("release") / "clone")
    for name in BESIDE:
        shutil.copy(ROOT / name, folder)
    (folder / ".gitignore").write_text("__pycache__/\n.snakemake/\n/results/smoke/\n/build/\n.cache/\n", encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "claims and code")
    call(folder, "snakemake", "all")
    call(folder, "ripstop", "verify", "--scale", "smoke", "--record")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def archive(drawn: Path) -> Path:
    assert "MB" in call(drawn, "ripstop", "release")
    (path,) = (drawn / "build").glob("ripstop-*-smoke.tar.gz")
    return path


@pytest.fixture
def clone(drawn: Path, tmp_path: Path) -> Path:
    """A copy that may be edited."""
    return Path(shutil.copytree(drawn, tmp_path / "clone", symlinks=True, ignore=shutil.ignore_patterns("build")))


def unpacked(archive: Path, where: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(where, filter="data")
    (root,) = where.iterdir()
    return root


def differing(root: Path) -> list[str]:
    """Files that are not what SHA256SUMS says."""
    lines = (root / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    assert len(sums) > 100
    return [name for name, digest in sums.items() if hashlib.sha256((root / name).read_bytes()).hexdigest() != digest]


def test_the_same_commit_is_the_same_archive(drawn: Path, archive: Path, tmp_path: Path) -> None:
    call(drawn, "ripstop", "release", "--out", str(tmp_path / "again.tar.gz"))
    assert (tmp_path / "again.tar.gz").read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
    assert len({member.mtime for member in members}) == 1
    modes = {member.name.partition("/")[2]: member.mode for member in members if member.isfile()}
    assert modes["workflow/scripts/logged"] == 0o755 and modes["params.yaml"] == 0o644


def test_it_draws_the_paper_again_without_git_to_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    """In somebody else's repository, too, whose history is not that of the results."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project")
    root = unpacked(archive, tmp_path / "here")
    assert differing(root) == []
    said = json.loads((root / "RELEASE.json").read_text(encoding="utf-8"))
    assert said["scale"] == "smoke"
    assert not said["commit"].startswith(said["drawn_at"]), "results are committed after they are drawn"
    printed = [path for name in ("paper/tables", "paper/figures", "results/smoke/paper") for path in (root / name).rglob("*.*")]
    assert len(printed) > 10
    for path in printed:
        path.unlink()
    call(root, *REDRAW)
    assert differing(root) == []
    call(root, "ripstop", "verify", "--scale", "smoke")


def test_a_changed_criterion_is_not_called_registered(archive: Path, tmp_path: Path) -> None:
    root = unpacked(archive, tmp_path / "here")
    (root / "paper/claims.yaml").write_text(
        (root / "paper/claims.yaml").read_text(encoding="utf-8").replace("above: 1", "above: 0"), encoding="utf-8"
    )
    call(root, *REDRAW)
    assert "paper/claims.yaml" in differing(root)
    claim = json.loads((root / "results/smoke/paper/claims.json").read_text(encoding="utf-8"))["claims"][0]
    assert claim["registration"] == "registration unknown", "what git proved, it proved of another criterion"


def test_what_is_missing_is_one_sentence(clone: Path) -> None:
    def told() -> str:
        return call(clone, "ripstop", "release", status=2)

    (clone / "params.yaml").write_text((clone / "params.yaml").read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert "params.yaml: differs from the commit" in told()
    git(clone, "checkout", "params.yaml")
    contents = clone / "results/smoke/paper/contents.json"
    said = json.loads(contents.read_text(encoding="utf-8"))
    contents.write_text(json.dumps(said | {"commit": "abc-dirty"}), encoding="utf-8")
    assert "drawn at a commit that is abc-dirty" in told()
    contents.unlink()
    assert "contents.json: is not there" in told() and not (clone / "build").exists()
    contents.write_text(json.dumps(said), encoding="utf-8")
    (clone / "results/smoke/paper/tables/pairs.tex").unlink()
    assert "tables/pairs.tex: is not there; render the paper with `make redraw`" in told()
    git(clone, "rm", "-q", "--cached", "results/records/smoke/lines.jsonl.gz")
    git(clone, "commit", "-qm", "without records")
    assert "results/records/smoke/lines.jsonl.gz: is not in git" in told()
    shutil.rmtree(clone / ".git")
    assert "not a git repository" in told() and "run `release` in a clone" in told()


def test_a_damaged_release_file_is_one_sentence(archive: Path, tmp_path: Path) -> None:
    root = unpacked(archive, tmp_path / "here")
    (root / "RELEASE.json").write_text("{}", encoding="utf-8")
    assert "RELEASE.json: does not say `drawn_at`" in call(root, "ripstop", "verify", "--scale", "smoke", status=2)


@LATEX
@pytest.mark.skipif(shutil.which("latexdiff") is None, reason="latexdiff is not installed")
def test_latexdiff_marks_words_and_numbers_that_changed(archive: Path, clone: Path, tmp_path: Path) -> None:
    section = clone / "paper/sections/pairs.tex"
    section.write_text("\\section{pairs}\nThere are \\val{pairs.n_runs} runs, and one more word.\n", encoding="utf-8")
    params = yaml_file.override(yaml_file.mapping(clone / "params.yaml"), ["studies.pairs.seeds=[0, 1, 2]"], "params.yaml")
    (clone / "params.yaml").write_text(yaml_file.dump(params), encoding="utf-8")
    commit(clone)
    call(clone, "snakemake", "all")
    call(clone, "ripstop", "verify", "--scale", "smoke", "--record")
    commit(clone)
    call(clone, "ripstop", "release", "--out", str(tmp_path / "new.tar.gz"))
    said = call(clone, "ripstop", "latexdiff", str(archive), str(tmp_path / "new.tar.gz"), "--out", str(tmp_path / "diff"))
    assert "diff.pdf" in said and "tables/pairs.tex" in said and "tables/lines.tex" not in said
    marked = (tmp_path / "diff/diff.tex").read_text(encoding="utf-8")
    assert "There are 3 runs, and one more word" in marked and "DIFadd" in marked
    assert (tmp_path / "diff/diff.pdf").read_bytes().startswith(b"%PDF")
    told = call(clone, "ripstop", "latexdiff", str(archive), str(clone / "params.yaml"), status=2)
    assert "params.yaml: is no archive of `release`" in told


@pytest.mark.parametrize("damage", ["cut", "bit", "checksum"])
def test_an_archive_that_was_damaged_is_one_sentence(tmp_path: Path, damage: str) -> None:
    """Each in another way: the end is missing, the stream is no stream, the text is another one."""
    (tmp_path / "text").write_bytes(os.urandom(100_000))
    path = tmp_path / "one.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        packed.add(tmp_path / "text", "paper/text")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:50_000]
    elif damage == "bit":
        data[50_000:50_100] = bytes(100)
    else:
        data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"one.tar.gz: is no archive of `release`"):
        changed(path, path)


def test_every_source_of_data_has_its_licence_told() -> None:
    notes = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    packages = [*values(registry, Package), *values(introductions, Package), *values(trivia, Package)]
    for model in values(package, Gguf):
        packages += [part for part, _ in model.parts]
    assert len(packages) >= 5
    for item in packages:
        assert item.license.split(" (")[0] in notes and item.name.rsplit("-part", 1)[0] in notes, item.name
    assert libreoffice_help.LICENSE in notes


def values(module: ModuleType, kind: type[Any]) -> list[Any]:
    """The constants of a module that are of a kind."""
    return [value for value in vars(module).values() if isinstance(value, kind)]
