"""Code digests: what moves them and what does not, on a copy of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripstop import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package named ripstop: `top` imports `low`, both inside the package; `other` stands alone."""
    root = tmp_path / "ripstop"
    (root / "ops").mkdir(parents=True)
    (root / "__init__.py").write_text('"""Root."""\n')
    (root / "ops" / "__init__.py").write_text("")
    (root / "ops" / "low.py").write_text('"""Low."""\n\ndef f(x):\n    """Double."""\n    return x * 2\n')
    (root / "top.py").write_text("from ripstop.ops import low\n\ndef g(x):\n    return low.f(x)\n")
    (root / "other.py").write_text("VALUE = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE", root)
    provenance._read.cache_clear()
    return root


def redigest(*modules: str) -> str:
    provenance._read.cache_clear()
    return provenance.code_digest(modules)


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    before = redigest("ripstop.top")
    low = package / "ops" / "low.py"
    low.write_text("# a comment\n'''Another text.'''\ndef f(x):\n\n    return (x\n        * 2)\n")
    assert redigest("ripstop.top") == before


def test_a_changed_op_moves_everything_that_imports_it_and_nothing_else(package: Path) -> None:
    top, other = redigest("ripstop.top"), redigest("ripstop.other")
    low = package / "ops" / "low.py"
    low.write_text(low.read_text().replace("x * 2", "x * 3"))
    assert redigest("ripstop.top") != top
    assert redigest("ripstop.other") == other


def test_a_package_init_counts_for_its_modules(package: Path) -> None:
    before = redigest("ripstop.top")
    (package / "ops" / "__init__.py").write_text("FLAG = True\n")
    assert redigest("ripstop.top") != before


def test_imports_inside_functions_count(package: Path) -> None:
    (package / "lazy.py").write_text("def h():\n    from ripstop.ops.low import f\n    return f(1)\n")
    before = redigest("ripstop.lazy")
    low = package / "ops" / "low.py"
    low.write_text(low.read_text().replace("x * 2", "x * 3"))
    assert redigest("ripstop.lazy") != before


def test_source_key_follows_every_byte(package: Path) -> None:
    before = provenance.source_key()
    (package / "other.py").write_text("VALUE = 1\n# comment\n")
    assert provenance.source_key() != before


def test_the_paper_does_not_import_what_trains() -> None:
    provenance._read.cache_clear()
    assert "ripstop.ops.state_space" not in provenance.imported_modules("ripstop.records")
    assert provenance.imported_modules("ripstop.mixers") == {"ripstop.config"}
