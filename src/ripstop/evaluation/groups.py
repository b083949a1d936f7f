"""Several parts of a run at once: all of them, or a group of them; and a quick look at what they would measure."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ripstop import yaml_file
from ripstop.config import ConfigError, nearest
from ripstop.evaluation import PARTS
from ripstop.evaluation.base import PartConfig, Subject
from ripstop.records import Measurement
from ripstop.runs import Run
from ripstop.training.precision import prepare_device

MOVES_NO_NUMBER = "it names parts, which measure by themselves, and keeps nothing of a quick look"

GROUPS = ("quality", "context", "efficiency")
KINDS = {
    "context": "context",
    "pronouns": "context",
    "state_size": "efficiency",
    "decode_bytes": "efficiency",
    "decode_time": "efficiency",
    "translation_cost": "efficiency",
}
"""Kind of part -> its group; any other says how good a model is."""
QUICK = {
    "n_translations": 8,
    "n_pieces": 24,
    "n_items": 24,
    "n_bootstrap": 100,
    "n_turns": 2,
    "prompt_turns": 2,
}
"""What a quick look takes at most, of each setting that has one of these names."""
READ = ("translation",)
"""Kinds whose parts are read by those of `READERS`: they are measured first."""
READERS = ("quality", "comet")
"""A quick look leaves them out, since it leaves nothing for them to read."""


def parts_of(folder: Path) -> dict[str, str]:
    """Part -> kind, of every part that the plan gives the run in `folder`; those that others read come first."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such run; name its folder, results/<scale>/<study>/runs/<run>")
    names = sorted(path.stem for path in folder.glob("*.code") if path.stem != "train")
    if not names:
        raise ConfigError(f"{folder}: has no part to measure; `python -m ripstop plan --write` writes the files of every run")
    kinds = {name: str(yaml_file.mapping(folder / f"{name}.yaml").get("kind")) for name in names}
    return dict(sorted(kinds.items(), key=lambda item: item[1] not in READ))


def chosen(folder: Path, part: str | None, group: str | None) -> list[str]:
    """The parts of a group, or all of them where none is named."""
    if part is not None:
        raise ConfigError(f"--part {part} and --only {group} name parts twice; give one of them")
    if group is not None and group not in GROUPS:
        raise ConfigError(f"--only {group}: no such group{nearest(group, list(GROUPS))}; there are {', '.join(GROUPS)}")
    parts = parts_of(folder)
    found = [name for name, kind in parts.items() if group is None or _group(kind) == group]
    if not found:
        there = ", ".join(f"{name} ({_group(kind)})" for name, kind in parts.items())
        raise ConfigError(f"{folder}: no part is of the group {group}, there are {there}; name one of these")
    return found


def left_out(folder: Path, part: str, quick: bool) -> str:
    """Why a part is not measured together with the others, "" where it is."""
    kind = parts_of(folder)[part]
    environment = PARTS.config(kind).environment  # type: ignore[attr-defined]
    if environment != PartConfig.environment:
        return f"{part}: left out, needs the environment envs/{environment}; `evaluate --part {part}` measures it there"
    if quick and kind in READERS:
        return f"{part}: left out, reads what other parts leave, and a quick look leaves nothing"
    return ""


def _group(kind: str) -> str:
    return KINDS.get(kind, "quality")


def look(folder: Path, data: Path, part: str) -> Iterator[Measurement]:
    """What a part measures with fewer samples. Nothing is recorded, and no other part is read; `ConfigError` as in
    `evaluate`, but for a model that was trained otherwise, which is looked at as it is."""
    run = Run.load(folder, parts=[part])
    run.data.verify(data)
    settings = quick(run.evaluation[part])
    settings.check(run)
    with tempfile.TemporaryDirectory() as out, torch.inference_mode():
        subject = Subject(run, folder, data, Path(out), prepare_device(run.compute))
        yield from settings.measure(subject)


def quick(settings: PartConfig) -> PartConfig:
    """The same with fewer samples."""
    fewer: dict[str, Any] = {}
    for name, most in QUICK.items():
        value = getattr(settings, name, 0)
        if value is None or value > most:
            fewer[name] = most
    return settings.replace(**fewer) if fewer else settings


def shown(measured: Measurement) -> str:
    """`accuracy 0.25 fraction of 4, control own`."""
    where = "".join(f", {key} {value}" for key, value in measured.slice.items())
    return f"{measured.metric} {measured.value:.4g} {measured.unit} of {measured.n}{where}"
