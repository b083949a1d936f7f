"""Where a result comes from: digests of bytes, the commit, the versions, the processor."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from ripstop import code_digest, provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "ripstop"
    root.mkdir()
    (root / "other.py").write_text("VALUE = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", root)
    return root


def test_source_key_follows_every_byte(package: Path) -> None:
    before = provenance.source_key()
    (package / "other.py").write_text("VALUE = 1\n# comment\n")
    assert provenance.source_key() != before
    (package / "other.py").write_text("VALUE = 1\n")
    assert provenance.source_key() == before
    (package / "other.py").rename(package / "another.py")
    assert provenance.source_key() != before


def test_digests_are_those_of_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert provenance.file_sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    assert provenance.digest("abc") == provenance.digest(b"abc") == hashlib.sha256(b"abc").hexdigest()[:16]


def test_a_changed_tracked_file_makes_the_commit_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert provenance.commit() == "unknown"
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    assert len(provenance.commit()) == 12
    for made in ("results/metrics/cpu/a.json", "paper/main.pdf", "paper/verdicts.json", "paper/tables/a.tex"):
        path = tmp_path / made
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
        git("add", made)
    git("commit", "-m", "results")
    for made in ("results/metrics/cpu/a.json", "paper/main.pdf", "paper/verdicts.json", "paper/tables/a.tex"):
        (tmp_path / made).write_text("two")  # as the workflow does while it runs
    assert len(provenance.commit()) == 12
    (tmp_path / "file").write_text("two")
    assert provenance.commit().endswith("-dirty")


def test_versions_and_processor_are_named() -> None:
    found = provenance.versions()
    assert found["python"].startswith("3.") and found["torch"].startswith("2.")
    assert len(provenance.processor()) > 3


def test_the_paper_does_not_import_what_trains() -> None:
    assert not [m for m in code_digest.closure(["ripstop.records", "ripstop.claims"]) if m.startswith("ripstop.ops")]
    assert code_digest.imported_modules("ripstop.mixers") == {"ripstop.config"}
