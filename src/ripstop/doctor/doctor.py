"""The command `doctor`: every check in its order, a line each as it is made, and whether scale cpu works here."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ripstop.doctor import machine, packages, tools, work
from ripstop.doctor.finding import Check, Finding, Level, examine

CHECKS: tuple[tuple[str, Check, Level], ...] = (
    ("python", machine.python, "FAIL"),
    ("processors", machine.processors, "note"),
    ("memory", machine.memory, "note"),
    ("disk", machine.disk, "FAIL"),
    ("libraries", packages.libraries, "FAIL"),
    ("torch", packages.torch_library, "FAIL"),
    ("gpu", machine.gpu, "note"),
    ("cuda kernels", packages.cuda_kernels, "note"),
    ("kernels", work.kernels, "FAIL"),
    ("mixers", work.mixers, "FAIL"),
    ("resume", work.resume, "FAIL"),
    ("workflow", lambda: packages.extra("workflow", "snakemake and dvc", "FAIL"), "FAIL"),
    ("dev", lambda: packages.extra("dev", "tests and lint", "note"), "note"),
    ("git", tools.git, "note"),
    ("dvc", tools.dvc, "note"),
    ("latex", tools.latex, "note"),
    ("comet", tools.comet, "note"),
)
"""Name, check, and the level of whatever it raises."""
STYLES = {"ok": "green", "note": "yellow", "FAIL": "bold red"}


def doctor(as_json: bool = False, console: Console | None = None) -> int:
    """Make every check and say what it found. The exit status: 0 where scale cpu works here."""
    started = time.perf_counter()
    console = console or Console(file=sys.stdout, highlight=False)
    found = []
    with console.status("...") as status:
        for finding in findings(lambda name: status.update(Text(name))):
            found.append(finding)
            if not as_json:
                _show(finding, console)
    failed = [finding.name for finding in found if finding.level == "FAIL"]
    if as_json:
        console.print(json.dumps([asdict(finding) for finding in found], indent=1), soft_wrap=True, markup=False)
        return int(bool(failed))
    notes = sum(finding.level == "note" for finding in found)
    verdict = f"scale cpu does not work here: {', '.join(failed)}" if failed else "scale cpu works here"
    console.print(
        Text(f"{verdict}; {notes} notes, {time.perf_counter() - started:.1f} s", style=STYLES["FAIL" if failed else "ok"])
    )
    return int(bool(failed))


def findings(progress: Callable[[str], None]) -> Iterator[Finding]:
    """Those of all checks, as they are made. progress: is told what is looked at."""
    for name, check, broken in CHECKS:
        progress(name)
        yield from examine(name, check, broken, packages.SETUP if broken == "FAIL" else "")


def _show(finding: Finding, console: Console) -> None:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=4, style=STYLES[finding.level])
    row.add_column(width=16)
    row.add_column(overflow="fold")
    row.add_row(finding.level, Text(finding.name, overflow="fold"), Text(finding.said, overflow="fold"))
    console.print(row)
    if finding.remedy and finding.level != "ok":
        console.print(Text(f"{'':22}-> {finding.remedy}"), soft_wrap=True)  # one line, so that it can be copied
