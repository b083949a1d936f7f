"""The README's floor plan is the tree, and the commands it gives exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def floor_plan() -> dict[str, str]:
    """Path -> its one line, from the block under "Floor plan". Indentation is nesting; a folder ends in `/`."""
    block = README.split("## Floor plan", 1)[1].split("```", 2)[1]
    plan: dict[str, str] = {}
    parents: list[str] = []
    for line in filter(None, map(str.rstrip, block.splitlines())):
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, text = line.strip().partition(" ")
        path = "".join(parents[:depth]) + name
        parents[depth:] = [name]
        plan[path] = text.strip()
    return plan


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return {line for line in listed.stdout.splitlines() if (ROOT / line).exists()}


def test_every_module_has_its_line_and_every_line_its_file() -> None:
    plan, files = floor_plan(), tracked()
    for path in plan:
        present = any(f.startswith(path) for f in files) if path.endswith("/") else path in files
        assert present, f"README's floor plan names {path}, which git does not track"
    modules = {f for f in files if f.startswith("src/") and f.endswith(".py") and not f.endswith("__init__.py")}
    assert modules - plan.keys() == set(), "modules without a line in README's floor plan"
    top = {f.split("/")[0] + ("/" if "/" in f else "") for f in files}
    unnamed = {t for t in top if not t.startswith(".") and not any(path.startswith(t) for path in plan)}
    assert not unnamed, "top-level entries without a line in README's floor plan"


def test_every_line_says_something() -> None:
    assert not [path for path, text in floor_plan().items() if len(text) < 8]


def test_the_make_targets_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert named and named <= targets


def test_the_commands_that_it_names_exist() -> None:
    main = (ROOT / "src" / "ripstop" / "__main__.py").read_text()
    commands = {name.replace("_", "-") for name in re.findall(r"@?app\.command\([^)]*\)(?:\ndef |\()(\w+)", main)}
    commands |= set(re.findall(r"add_typer\(\w+, name=\"([a-z-]+)\"", main))
    named = set(re.findall(r"-m ripstop ([a-z-]+)", README))
    assert named and named <= commands
