"""Where a result comes from: digests of code, configuration and data, the commit, library versions, the device."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent
LIBRARIES = ("torch", "triton", "mamba-ssm", "causal-conv1d", "flash-attn", "tokenizers", "datasets", "sacrebleu")


def digest(text: str | bytes) -> str:
    """First 16 hex digits of the SHA-256."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def code_digest(modules: Iterable[str]) -> str:
    """Digest of the syntax trees of `modules` and of every ripstop module that they import, directly or not.

    Comments, docstrings and formatting do not enter; anything that can change a result does.
    """
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo.extend(_parents(module))
            todo.extend(_read(_path(module))[1])
    return digest("\n".join(f"{module} {_read(_path(module))[0]}" for module in sorted(seen)))


def imported_modules(module: str) -> set[str]:
    """The ripstop modules that `module` names in its import statements, wherever they stand."""
    return set(_read(_path(module))[1])


def source_key() -> str:
    """Digest of the bytes of the whole package: cheap, and different whenever any digest could be."""
    return digest(files_digest("**/*.py") + files_digest("**/*.j2"))


def files_digest(pattern: str) -> str:
    """Digest of names and bytes of the package's files that match `pattern`."""
    files = sorted(PACKAGE.glob(pattern))
    return digest(b"\0".join(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() for path in files))


def commit() -> str:
    """The commit of the checkout, `-dirty` where tracked files differ from it, `unknown` outside a checkout."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries that can move a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.lru_cache
def processor() -> str:
    """Name of the CPU."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _path(module: str) -> Path:
    base = PACKAGE.parent.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _parents(module: str) -> list[str]:
    """The packages whose `__init__` runs when `module` is imported."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


@functools.cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of the file's syntax tree without docstrings, and the ripstop modules that it imports."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return digest(ast.dump(tree)), tuple(sorted(set(_imports(tree))))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from package import name`: name may be a module or something inside the package
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [node.module, *(name for name in inside if name.startswith("ripstop.") and _path(name).is_file())]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "ripstop")
