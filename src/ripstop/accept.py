"""Keeping results under a digest of other code, deliberately: recorded with a reason, and printed.

A digest errs on the safe side: a change that moves no number may still move it. `ripstop accept` then says so for good.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ripstop import provenance
from ripstop.accepted import FILE, Acceptance, Accepted
from ripstop.config import ConfigError
from ripstop.files import read_text, write_text
from ripstop.plan import Plan

MOVES_NO_NUMBER = "says which digests mean the same"


def accept(plan: Plan, studies: list[str], reason: str, root: Path = Path()) -> list[Acceptance]:
    """Record that the results of `studies` hold for the code as it is now. Returns what was added.

    Only what differs from its plan in the digest of code alone is accepted: other parameters are another result.
    """
    if not reason.strip():
        raise ConfigError("--reason: say in a sentence why the results hold for the changed code")
    known = Accepted.read(root)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    added: dict[tuple[str, str], Acceptance] = {}
    for study, stage, planned, made in _stale(plan, studies, root):
        added[planned, made] = Acceptance(
            scale=plan.scale, study=study, stage=stage, made=made, now=planned, reason=reason.strip(), date=now,
            commit=provenance.commit(),
        )  # fmt: skip
    by_now: dict[str, str] = {}
    for planned, made in added:
        if by_now.setdefault(planned, made) != made:
            raise ConfigError(
                f"results made with different code ({by_now[planned]} and {made}) would be taken for one; "
                "make the older ones again, or accept one study at a time"
            )
    if added:
        rows = [entry.model_dump() for entry in [*known.entries, *added.values()]]
        write_text(root / FILE, json.dumps(rows, indent=1) + "\n")
    return list(added.values())


def _stale(plan: Plan, studies: list[str], root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Study, stage, planned digest and made digest of every result that only its code makes stale."""
    folder = plan.folder(root)
    for name, text in plan.files.items():
        if not name.endswith(".code") or name.endswith("paper.code"):
            continue
        home, stage = folder / Path(name).parent, Path(name).stem
        study = name.split("/")[0]
        if study == "data":
            users = {s for s, jobs in plan.runs.items() if any(j.data == home.name for j in jobs.values())}
            if not users & set(studies):
                continue
            study = sorted(users & set(studies))[0]
        elif study not in studies:
            continue
        made = _made_with(home, stage)
        if made is not None and made != text.strip() and _same_config(plan, folder, name):
            yield study, stage, text.strip(), made


def _made_with(home: Path, stage: str) -> str | None:
    """The digest of the code that the results in `home` were made with, None where there are none."""
    if stage == "prepare":
        return read_text(home / "prepare.code").strip() if (home / "data.json").is_file() else None
    try:
        if stage == "train":
            return str(json.loads(read_text(home / "training.json"))["identity"]["code"])
        with open(home / "parts" / stage / "records.jsonl", encoding="utf-8") as lines:
            return str(json.loads(lines.readline())["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same_config(plan: Plan, folder: Path, code: str) -> bool:
    """Whether the configuration that the results were made with, as it lies there, is the planned one."""
    home = Path(code).parent
    names = {"prepare": ["config.yaml"], "train": ["config.yaml"]}.get(
        Path(code).stem, ["config.yaml", f"{Path(code).stem}.yaml"]
    )
    try:
        return all(read_text(folder / home / name) == plan.files[str(home / name)] for name in names)
    except (OSError, ConfigError, KeyError):
        return False
