"""How an answer is put in words, the same in a terminal and in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from ripstop.why.answer import Answer
from ripstop.why.paper import stood_on

NOT_KEPT = "not kept"


def counted(n: int, what: str) -> str:
    """`1 run`, `5,000 runs`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def ranges(numbers: Iterable[int], to: str = "–", apart: str = ", ") -> str:
    """`1–3, 5`."""
    runs = [[n for _, n in group] for _, group in groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0])]
    return apart.join(f"{run[0]}{to}{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def rests_on(answer: Answer) -> str:
    """How many records and runs are behind it."""
    n = answer.estimate.get("n")
    return f"{counted(len(answer.records), 'record')} of {counted(len(answer.runs), 'run')}" + f"; n = {n}" * (n is not None)


def slices(record: Mapping[str, Any]) -> str:
    """`n_pairs 8, control own`."""
    return ", ".join(f"{key} {value}" for key, value in record["slice"].items())


def value(record: Mapping[str, Any]) -> str:
    """With its unit."""
    return f"{record['value']:.6g} {record['unit']}".rstrip()


def folded(answer: Answer) -> Iterator[str]:
    """Runs that stood on the same, a line each."""
    groups = Counter(" · ".join(circumstances(found)) for found in answer.runs.values())
    for told, n in groups.items():
        yield f"{counted(n, 'run')}: {told}"


def chain(run: Mapping[str, Any]) -> Iterator[str]:
    """Of one run its files and what each stage stood on. run: one of an answer's."""
    if not run:
        yield f"where it comes from was {NOT_KEPT}; collect its study's records again, where the runs are"
        return
    for label in ("config", "data"):
        yield f"{label}: {run[label]['path'] or NOT_KEPT}  digest {run[label]['digest'] or NOT_KEPT}"
    if run["model"]:
        yield f"model: digest {run['model']}"
    for name, stage in run["stages"].items():
        code = f"code {stage['code'] or NOT_KEPT}"
        settings = f", settings {stage['settings']} digest {stage['config']}" if "config" in stage else ""
        yield f"{name}: {code}{settings}, log {stage['log'] or NOT_KEPT}"
        yield f"  {' · '.join(circumstances({'stages': {name: stage}}))}"


def circumstances(run: Mapping[str, Any]) -> tuple[str, str, str]:
    """The commit, device and versions that a run stood on."""
    stage = stood_on(run)
    versions = ", ".join(f"{name} {version}" for name, version in (stage.get("versions") or {}).items())
    return (
        f"commit {stage.get('commit') or NOT_KEPT}",
        str(stage.get("device") or f"device {NOT_KEPT}"),
        versions or f"versions {NOT_KEPT}",
    )
