"""The jobs that Snakemake would run now, as its own dry run tells them: it decides what is stale, here it is only read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ripstop.config import ConfigError

MOVES_NO_NUMBER = "it shows what the workflow would do"

LOOKED_AT = re.compile(r"^/\S*/ripstop-plan-\w+/")
"""Where a dry run keeps the planned files that would differ from those in the tree (workflow/rules/common.smk)."""
_JOB = re.compile(r"^( *)(?:local)?(?:rule|checkpoint) (\w+):\n((?:\1    .*\n)+)", flags=re.M)
"""A job, indented where it is in a group of them."""
EXCEPTION = re.compile(r"\w+(Exception|Error)\b")
_TOLD = re.compile(r"^ +(\w+): (.*)$", flags=re.M)


@dataclass(frozen=True)
class Job:
    """A job that would run, with its paths as the workflow has them; a planned file that would differ is `results/...` too.

    missing: outputs that are not there. updated: inputs that changed. remade: inputs that another job makes first.
    other: what else Snakemake gives as a reason, in its words.
    """

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def study(self) -> str:
        """The study that it works for; "" where it works for several."""
        return self.wildcards.get("study", self.rule.removeprefix("study_") if self.rule.startswith("study_") else "")

    @property
    def run(self) -> str:
        return self.wildcards.get("run", "")


def command(scale: str, targets: list[str], named: bool) -> list[str]:
    """The command line that runs what `would_run` lists. named: the scale is not the one that the parameters name."""
    return ["snakemake", *targets, *(["--config", f"scale={scale}"] if named else [])]


def would_run(scale: str, targets: list[str]) -> list[Job]:
    """Every job that a dry run of `targets` shows, in its order. `ConfigError` says what Snakemake complains of."""
    asked = [sys.executable, "-m", "snakemake", *targets, "--dry-run", "--nocolor", "--config", f"scale={scale}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8", errors="replace", env=_environment())
    except OSError as error:
        raise ConfigError(f"snakemake: cannot be started ({error.strerror}); make the environment with `make setup`") from None
    if done.returncode:
        raise ConfigError(f"snakemake {' '.join(targets)} --dry-run: {_complaint(done.stdout, done.stderr)}")
    return jobs(done.stdout + done.stderr, scale)


def jobs(output: str, scale: str) -> list[Job]:
    """The jobs of a dry run's output."""
    return [_job(rule, dict(_TOLD.findall(body)), scale) for _, rule, body in _JOB.findall(output)]


def _job(rule: str, told: dict[str, str], scale: str) -> Job:
    def paths(text: str) -> tuple[str, ...]:
        found = (LOOKED_AT.sub(f"results/{scale}/", path) for path in text.split(", "))
        return tuple(path for path in found if path)

    reasons: dict[str, tuple[str, ...]] = {}
    other = []
    for sentence in told.get("reason", "").split("; "):
        words, _, listed = sentence.partition(": ")
        if words in ("Missing output files", "Updated input files", "Input files updated by another job"):
            reasons[words] = paths(listed)
        elif words:
            other.append(sentence)
    return Job(
        rule,
        dict(pair.split("=", 1) for pair in told.get("wildcards", "").split(", ") if "=" in pair),
        paths(told.get("input", "")),
        paths(told.get("output", "")),
        reasons.get("Missing output files", ()),
        reasons.get("Updated input files", ()),
        reasons.get("Input files updated by another job", ()),
        tuple(other),
    )


def _environment() -> dict[str, str]:
    """For this package's code and this interpreter, whatever the terminal looks like."""
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "TERM": "dumb"}


def _complaint(*streams: str) -> str:
    """What Snakemake says of the mistake: our own sentence, its exception, or its last lines."""
    told = [[line.strip() for line in stream.splitlines() if line.strip()] for stream in streams]
    for lines in told:
        for number, line in enumerate(lines):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
            if EXCEPTION.match(line):
                return " ".join(lines[number:])
    return " ".join([line for lines in told for line in lines][-3:])
