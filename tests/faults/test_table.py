"""The table of faults and the tests: every row names tests that there are, and every test of faults has a row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| fault |")
]


def defined_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_bytes())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def named() -> set[str]:
    return {name for row in ROWS for name in re.findall(r"`(tests/[^`]+)`", row[-1])}


def test_every_row_says_what_where_what_then_and_names_its_test() -> None:
    assert len(ROWS) >= 30
    for row in ROWS:
        assert len(row) == 4 and all(row), row
        assert re.fullmatch(r"(`tests/[\w/]+\.py::\w+` ?)+", row[3]), row
    assert len({(row[0], row[1]) for row in ROWS}) == len(ROWS)


def test_every_named_test_is_there() -> None:
    for name in named():
        file, _, test = name.partition("::")
        assert (ROOT / file).is_file() and test in defined_in(ROOT / file), name


def test_every_test_of_faults_has_a_row() -> None:
    here = {path.relative_to(ROOT): defined_in(path) for path in (ROOT / "tests/faults").glob("test_*.py")}
    there = {f"{path}::{test}" for path, tests in here.items() for test in tests if path.name != Path(__file__).name}
    assert there <= named(), sorted(there - named())
