"""What `status` says beside the jobs that would run: results that are kept, and who executes the workflow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from status.test_durations import plan
from test_accepted import entry

from ripstop.accepted import FILE
from ripstop.status import workflow
from ripstop.status.report import Status, status
from ripstop.training.lock import Lock

LOCK = Path(".snakemake/execution.lock")


@pytest.fixture(autouse=True)
def _nothing_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workflow, "would_run", lambda scale, targets: [])


def asked(*studies: str) -> Status:
    return status(plan(), list(studies), named=True)


def test_results_that_are_kept_are_told_of_the_studies_that_are_shown() -> None:
    FILE.parent.mkdir()
    entries = [entry(study, study, scale="smoke") for study in ("s", "s2")]
    FILE.write_text(json.dumps([one.model_dump() for one in entries]), encoding="utf-8")
    (sentence,) = asked().accepted
    assert " 1 of s (accepted on " in sentence
    assert asked("s").accepted == [sentence] and asked("t").accepted == []


def test_who_executes_the_workflow_is_known_by_its_lock_on_any_machine() -> None:
    LOCK.parent.mkdir()
    owner = json.dumps({"pid": os.getpid(), "host": "elsewhere", "process": "1"})
    LOCK.write_text(owner, encoding="utf-8")
    assert asked().executing == "", "it was killed"
    with Lock(LOCK):
        LOCK.write_text(owner, encoding="utf-8")
        assert asked().executing == f"process {os.getpid()} on elsewhere"
