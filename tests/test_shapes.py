"""Tensor names end in letters that `shapes.py` explains."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ripstop import shapes

SOURCES = sorted((Path(shapes.__file__).parent).rglob("*.py"))


def legend() -> set[str]:
    """Letters and digits that begin an entry of the legend; two entries may stand in a line."""
    entries = re.findall(r"(?:^|\s{3,})(\w)  \S", shapes.__doc__ or "", flags=re.MULTILINE)
    assert len(entries) == len(set(entries)), "a letter is explained twice"
    return set(entries)


def shaped(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Name, letters and line of what functions and classes call a tensor: parameters, variables and fields that end in an
    underscore and letters with a capital among them. Names all in capitals at the top of a module are constants, and so are
    words in capitals, `HAS_START`, in a kernel."""
    constants = {id(t) for node in getattr(tree, "body", []) if isinstance(node, ast.Assign) for t in ast.walk(node)}
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in constants:
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        match = re.fullmatch(r"\w*[a-zA-Z0-9]_([A-Za-z0-9]*[A-Z][A-Za-z0-9]*)", name or "")
        words = (name or "").split("_")
        if name and match and not (name.isupper() and all(len(word) > 1 for word in words)):
            yield name, match[1], getattr(node, "lineno", 0)


def test_the_legend_is_read() -> None:
    assert legend() >= set("BTSDHVKPNGCWQ")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parents[1])))
def test_every_suffix_uses_letters_of_the_legend(path: Path) -> None:
    known = legend()
    for name, letters, line in shaped(ast.parse(path.read_text(encoding="utf-8"))):
        unknown = sorted(set(letters) - known)
        assert not unknown, f"{path.name}, line {line}: {name} ends in {unknown}, which shapes.py does not explain"


def test_names_by_hand() -> None:
    code = "OS_FLAG = 1\ndef f(x_BTD, plain):\n    y_BX, snake_case, A_H = 1, 2, 3\n    self.z_cB = 4\n"
    assert {name for name, *_ in shaped(ast.parse(code))} == {"x_BTD", "y_BX", "A_H", "z_cB"}
