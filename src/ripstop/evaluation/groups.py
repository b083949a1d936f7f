"""Several parts of a run at once: all of them, or a group of them; and a quick look at what they would measure."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from ripstop import yaml_file
from ripstop.config import ConfigError, Strict, nearest
from ripstop.evaluation import PARTS
from ripstop.evaluation.base import Group, PartConfig, Subject
from ripstop.evaluation.derived import DerivedConfig
from ripstop.records import Measurement
from ripstop.runs import Run
from ripstop.training.precision import prepare_device

S = TypeVar("S", bound=Strict)
MOVES_NO_NUMBER = "it names parts, which measure by themselves, and keeps nothing of a quick look"

QUICK = {
    "n_translations": 8,
    "n_pieces": 24,
    "n_items": 24,
    "n_questions": 8,
    "n_documents": 24,
    "n_optimised": 2,
    "n_joint": 2,
    "n_coded": 1,
    "n_decoded": 1,
    "n_aligned": 2,
    "n_bootstrap": 100,
    "n_turns": 2,
    "prompt_turns": 2,
}
"""What a quick look takes at most, of each setting that has one of these names."""


def parts_of(folder: Path) -> dict[str, type[PartConfig]]:
    """Part -> its settings' class, of every part that the plan gives the run in `folder`; those that others read come first."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such run; name its folder, results/<scale>/<study>/runs/<run>")
    names = sorted(path.stem for path in folder.glob("*.code") if path.stem != "train")
    if not names:
        raise ConfigError(f"{folder}: has no part to measure; `python -m ripstop plan --write` writes the files of every run")
    found = {name: _kind(str(yaml_file.mapping(folder / f"{name}.yaml").get("kind"))) for name in names}
    return dict(sorted(found.items(), key=lambda item: issubclass(item[1], DerivedConfig)))


def _kind(kind: str) -> type[PartConfig]:
    found = PARTS.config(kind)
    assert issubclass(found, PartConfig)
    return found


def chosen(folder: Path, part: str | None, group: str | None) -> list[str]:
    """The parts of a group, or all of them where none is named."""
    if part is not None:
        raise ConfigError(f"--part {part} and --only {group} name parts twice; give one of them")
    groups = get_args(Group)
    if group is not None and group not in groups:
        raise ConfigError(f"--only {group}: no such group{nearest(group, list(groups))}")
    parts = parts_of(folder)
    found = [name for name, part in parts.items() if group is None or part.group == group]
    if not found:
        there = ", ".join(f"{name} ({part.group})" for name, part in parts.items())
        raise ConfigError(f"{folder}: no part is of the group {group}, there are {there}; name one of these")
    return found


def left_out(folder: Path, part: str, quick: bool) -> str:
    """Why a part is not measured together with the others, "" where it is."""
    kind = parts_of(folder)[part]
    if kind.environment != PartConfig.environment:
        return f"{part}: left out, needs the environment envs/{kind.environment}; `evaluate --part {part}` measures it there"
    if quick and issubclass(kind, DerivedConfig):
        return f"{part}: left out, reads what other parts leave, and a quick look leaves nothing"
    return ""


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


def quick(settings: S) -> S:
    """The same with fewer samples, of settings inside of them too."""
    inside = {name: getattr(settings, name) for name in type(settings).model_fields}
    fewer: dict[str, Any] = {
        name: less for name, value in inside.items() if isinstance(value, Strict) and (less := quick(value)) != value
    }
    for name, most in QUICK.items():
        value = getattr(settings, name, 0)
        if value is None or value > most:
            fewer[name] = most
    return settings.replace(**fewer) if fewer else settings


def shown(measured: Measurement) -> str:
    """`accuracy 0.25 fraction of 4, control own`."""
    where = "".join(f", {key} {value}" for key, value in measured.slice.items())
    return f"{measured.metric} {measured.value:.4g} {measured.unit} of {measured.n}{where}"
