"""Digests of code that follow numbers: what can move one enters, what cannot does not.

A stage depends on the modules that its configuration names and on every ripstop module that those import, wherever the
import stands. Of each module enters its syntax tree without

* comments, layout, docstrings, the order of imports, annotations of functions, and what only a type checker reads;
* what is said when something goes wrong: the arguments of whatever is called `...Error`, and of a `raise`;
* what is printed, logged or warned of, and the descriptions of configuration fields;
* what is counted as it passes by: statements that call a module of `COUNTS`, and its import where it serves nothing else.

Two kinds of module do not enter, nor what they alone import:

* one that says `MOVES_NO_NUMBER = "<why>"`: it shows, keeps or checks numbers (monitor, checkpoint, files), or its effect
  stands in the resolved configuration, which is an input of its own (config, params);
* CUDA kernels and adapters to them (`ripstop.kernels.adapters`, `ripstop.kernels.triton`), unless the run may use them.

Libraries do not enter either: their versions stand in every training.json, and constraints.txt pins them.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ripstop import provenance
from ripstop.provenance import digest

MOVES_NO_NUMBER = "it names results, and caches of them, by their code"

ADAPTERS = ("ripstop.kernels.adapters", "ripstop.kernels.triton")
EXEMPTION = "MOVES_NO_NUMBER"
SAYS = {"print", "log", "logger", "logging", "warnings", "console"}
"""Names whose calls, as statements, only say something: `print(...)`, `log.info(...)`."""
COUNTS = {"ripstop.kernels.reads"}
"""Modules whose calls, as statements, only count what passes by: `reads.note(...)`. Who reads their counts depends on them."""


def code_digest(modules: Iterable[str], cuda: bool = False) -> str:
    """Digest of `modules` and of what they import. cuda: with the adapters to kernels that only a GPU runs."""
    return digest("\n".join(f"{module} {of_module}" for module, of_module in module_digests(modules, cuda).items()))


def module_digests(modules: Iterable[str], cuda: bool = False) -> dict[str, str]:
    """Module that enters `code_digest` -> the digest of what of it enters, sorted."""
    return {module: _read(module).digest for module in sorted(closure(modules, cuda))}


def closure(modules: Iterable[str], cuda: bool = False) -> set[str]:
    """The modules that enter `code_digest`."""
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module in seen or (not cuda and module.startswith(ADAPTERS)):
            continue
        found = _read(module)
        if not found.exempt:
            seen.add(module)
            todo += [*_parents(module), *found.imports]
    return seen


def imported_modules(module: str) -> set[str]:
    """The ripstop modules that `module` names in its import statements, wherever they stand."""
    return set(_read(module).imports)


def exempt_modules() -> dict[str, str]:
    """Every module that moves no number, with its reason."""
    found = {}
    for path in sorted(provenance.PACKAGE.rglob("*.py")):
        if reason := _exemption(ast.parse(path.read_bytes())):
            parts = path.relative_to(provenance.PACKAGE.parent).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = reason
    return found


@dataclass(frozen=True)
class _Module:
    """What of one file enters, and which modules it names."""

    exempt: bool
    imports: tuple[str, ...]
    digest: str


@functools.cache
def _read(module: str) -> _Module:
    exempt, names, digest = _taken_apart(_path(module).read_bytes())
    # `from package import name`: name may be a module or something inside the package
    imports = {name for name, surely in names if surely or _path(name).is_file()}
    return _Module(exempt, tuple(sorted(imports)), digest)


@functools.cache
def _taken_apart(source: bytes) -> tuple[bool, list[tuple[str, bool]], str]:
    """Of one file's text: does it say that it moves no number, what it imports, and the digest of the rest."""
    tree = ast.parse(source)
    exempt = bool(_exemption(tree))
    only_numbers = _OnlyNumbers(_only_told(tree))
    tree = only_numbers.visit(tree)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return exempt, only_numbers.names, digest("\n".join([*sorted(map(_dump, imports)), *map(_dump, rest)]))


def _dump(node: ast.AST) -> str:
    """`ast.dump` as Python 3.11 writes it: from 3.12 on there are parameters of types, and 3.13 leaves out empty lists."""
    if sys.version_info >= (3, 13):
        text = ast.dump(node, show_empty=True)
    else:
        text = ast.dump(node)
    return text.replace(", type_params=[]", "")


class _OnlyNumbers(ast.NodeTransformer):
    """Takes out what cannot move a number.

    told: names of modules of `COUNTS` that are only told, and asked nothing.
    names: the names below ripstop that the rest imports, each with whether it is surely a module.
    """

    def __init__(self, told: set[str]):
        self.told = told
        self.names: list[tuple[str, bool]] = []

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise()

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        self._note([alias.name for alias in node.names], True)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        node.names = [name for name in node.names if not (name.name in self.told and f"{node.module}.{name.name}" in COUNTS)]
        if node.names and node.module and not node.level:
            self._note([node.module], True)
            self._note([f"{node.module}.{alias.name}" for alias in node.names], False)
        return node if node.names else None

    def _note(self, names: list[str], surely: bool) -> None:
        self.names += [(name, surely) for name in names if name.split(".")[0] == "ripstop"]

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Call) and _root(node.value.func) in SAYS | self.told:
            return None
        if isinstance(node.value, ast.Constant):
            return None  # a docstring, of an attribute too
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = _name(node.func)
        if name.endswith("Error"):
            return ast.Call(func=node.func, args=[], keywords=[])
        if name == "Field":
            node.keywords = [k for k in node.keywords if k.arg not in ("description", "title", "examples")]
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Python 3.12 alone ends `f"{x:>{width}}"` in an empty text
        node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return self.generic_visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        arguments = node.args
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
            if argument is not None:
                argument.annotation = None
        return self._body(node)

    def _body(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        visited = self.generic_visit(node)
        assert isinstance(visited, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if not isinstance(visited, ast.Module):
            visited.body = visited.body or [ast.Pass()]
        return visited


def _only_told(tree: ast.Module) -> set[str]:
    """The names of modules of `COUNTS` that a module imports, and uses in no other way than in statements that call them."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names if f"{node.module}.{alias.name}" in COUNTS}
    if not names:
        return names
    used = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    calls = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    told = Counter(_root(call.func) for call in calls)
    return {name for name in names if used[name] == told[name]}


def _exemption(tree: ast.Module) -> str:
    """The reason that a module gives for moving no number, "" where it gives none."""
    return str(_constant(tree, EXEMPTION) or "")


def _constant(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def _name(node: ast.expr) -> str:
    """`f` of `f` and of `a.b.f`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _root(node: ast.expr) -> str:
    """`a` of `a` and of `a.b.c`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _path(module: str) -> Path:
    base = provenance.PACKAGE.parent.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _parents(module: str) -> list[str]:
    """The packages whose `__init__` runs when `module` is imported."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]
