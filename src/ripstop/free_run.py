"""A run outside the grid: one model of a study, or a preset, on the study's data with settings of one's own.

It is resolved as a run of the grid is, to the same files, below `results/free` in place of `results/<scale>`: there neither the
workflow, nor `prune`, nor `verify` looks for it, and every command that takes a run's folder takes its.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ripstop import params as parameters
from ripstop import studies, yaml_file
from ripstop.accepted import Accepted
from ripstop.as_trained import data_of_trained
from ripstop.config import ConfigError, nearest, shown
from ripstop.data import DATA
from ripstop.data.base import DESCRIPTION, DataConfig
from ripstop.data.text import TextConfig
from ripstop.evaluation.derived import DerivedConfig
from ripstop.files import read_text, write_if_different
from ripstop.first_rank import await_rank_0, preparing, rank
from ripstop.models import MODELS
from ripstop.models.presets import PRESETS
from ripstop.runs import Run, run_name
from ripstop.stage_files import files_of_data, files_of_run
from ripstop.studies.base import runs
from ripstop.training.precision import prepare_device
from ripstop.training.results import MODEL, REPORT
from ripstop.verify.differences import value_differences

MOVES_NO_NUMBER = "what it resolves stands in the files that it writes"

HOME = Path("results", "free")
ROWS = "training.batch_size"
"""Rows of an update: an override that stands for `training.tokens_per_step`."""
TOLD = {"study": "--study", "scale": "--scale", "name": "--name", "choice": "", "settings": "", "factors": ""}
"""Keys of a run that no override sets, and the option that does."""
NAME = re.compile(r"[A-Za-z0-9][\w.+~-]*", re.ASCII)
MOST_DIFFERENCES = 4


@dataclass(frozen=True)
class FreeRun:
    """root: stands for results/<scale>. files: path below it -> text. data: the prepared folder. notes: what of the study does
    not hold for this run, a sentence each."""

    run: Run
    root: Path
    files: dict[str, str]
    data: Path
    notes: list[str]

    @property
    def folder(self) -> Path:
        return self.root / self.run.study / "runs" / self.run.name

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f".{self.run.name}.preparing")

    @property
    def own_files(self) -> dict[Path, str]:
        """Those of the run itself."""
        texts = {self.root / path: text for path, text in self.files.items()}
        return {path: text for path, text in texts.items() if path.parent == self.folder}

    def write(self) -> None:
        """The run's own files, where they differ from what lies there."""
        for path, text in self.own_files.items():
            write_if_different(path, text)
        for path in self._optional:
            if path not in self.own_files:
                path.unlink(missing_ok=True)

    @property
    def is_prepared(self) -> bool:
        """Whether the data lies there. What damaged it is told by the training, which reads all of it."""
        return (self.data / DESCRIPTION).is_file() and self.run.data.description(self.data).get("id") == self.run.data.id

    @property
    def is_ready(self) -> bool:
        """Whether everything lies there that a training reads, and nothing of other settings."""
        own = self.own_files
        there = all(path.is_file() and read_text(path) == text for path, text in own.items())
        return there and self.is_prepared and all(path in own or not path.exists() for path in self._optional)

    @property
    def _optional(self) -> list[Path]:
        """Files that a run has only where they say something."""
        return [self.folder / "parallel.yaml"]


def resolve(
    study: str, preset: str | None = None, arm: str | None = None, params: Path = Path("params.yaml"), scale: str | None = None,
    overrides: Sequence[str] = (), name: str | None = None, out: Path | None = None, data: Path | None = None,
) -> FreeRun:  # fmt: skip
    """The run that a command line tells: the study's arm at the scale, the preset in place of its model, the overrides on top.

    arm: named as the study names it; none given: its first. overrides: keys of a run (`training.steps=10`). name: of the run;
    none given: after its preset or arm, and its seed. data: a folder that is prepared; none given: one beside the run.
    `ConfigError` for all that can be known before something is written.
    """
    given = parameters.load(params, scale=scale)
    where = given.where(study, given.scale)
    own = _arm(list(_arms(study, given)), arm, where)
    if own.training is None:
        raise ConfigError(f"{where}: its arm {_arm_name(own)} is measured as it is built, so there is nothing to train")
    values = own.model_dump(mode="json") | {"choice": ""}
    base = _arm_name(own)
    if preset is not None:
        full = preset_of(study, preset)
        base, values["factors"] = run_name({"preset": full}), {"preset": full}
        values["model"] = MODELS.parse({"preset": full}, f"--preset {preset}").model_dump(mode="json")
    values = _overridden(values, overrides, where)
    seed = values["seed"]
    told = "_".join(filter(None, (base, f"seed-{seed}"))) if name is None else name
    if not NAME.fullmatch(told):
        raise ConfigError(f"--name {told}: is no name of a folder; write letters, digits, - or _")
    parts = values.pop("evaluation")
    if not isinstance(parts, Mapping):
        raise ConfigError(f"--set evaluation: needs a mapping of parts by their names (got {shown(parts)})")
    run = Run.parse(values | {"name": told}, f"free run of {study}")
    run.check()
    run, notes = _measured(run, parts)
    if own.choice:
        notes.append("the study's arms choose settings by held-out loss; this run has those of the study's block, and of --set")
    root = HOME if out is None else out
    home = root / "data" / run.data.id if data is None else data
    accepted = Accepted.read()
    files = files_of_run(study, run, accepted)
    if data is None:
        files |= files_of_data(f"data/{run.data.id}", run.data, accepted)
    free = FreeRun(run, root, files, home, notes)
    if data is not None:
        _is_that_data(free)
    return free


def preset_of(study: str, preset: str) -> str:
    """The full name of a preset: `base` of study swa_mla is `swa_mla_base`."""
    if preset in PRESETS:
        return preset
    own = {name.removeprefix(f"{study}_"): name for name in PRESETS if name.startswith(f"{study}_")}
    if preset not in own:
        raise ConfigError(f"--preset {preset}: there is no such preset{nearest(preset, [*own, *PRESETS])}")
    return own[preset]


def make_ready(free: FreeRun) -> bool:
    """Data prepared and the run's files written by rank 0, which the others wait for. False where the training has ended.

    `ConfigError` where the folder is another run's, or holds a model that other data made, and then nothing is written.
    """
    assert free.run.training is not None
    refuse_another(free)
    if all((free.folder / file).is_file() for file in (MODEL, REPORT)):
        data_of_trained(free.run, free.folder, free.data)
        say(f"{free.folder}: its training has ended; there is nothing left to do")
        return False
    if rank() > 0:
        await_rank_0(lambda: free.is_ready, free.lock, str(free.folder))
        return True
    prepare_device(free.run.compute, free.run.training.precision)  # of rank 0 alone: the others have other devices
    for note in free.notes:
        say(note)
    with preparing(free.lock):
        if not free.is_prepared:
            with preparing(free.data / ".preparing"):
                _prepare(free)
        free.write()
    return True


def say(text: str) -> None:
    """On standard output, once of all ranks."""
    if rank() == 0:
        print(text, flush=True)


def refuse_another(free: FreeRun) -> None:
    """`ConfigError` where a run with other settings, or trained by other code, lies in the folder."""
    config, code = free.folder / "config.yaml", free.folder / "train.code"
    goes_on = f"`python -m ripstop train {free.folder} --data {free.data}` goes on with that one"
    if config.is_file():
        found, wanted = yaml_file.mapping(config), yaml_file.parse(free.own_files[config], str(config))
        differ = list(value_differences(found, wanted, "and here"))
        if differ:
            more = f"; and {len(differ) - MOST_DIFFERENCES} more" if len(differ) > MOST_DIFFERENCES else ""
            raise ConfigError(
                f"{free.folder}: holds a run with other settings ({'; '.join(differ[:MOST_DIFFERENCES])}{more}); "
                f"give this one another --name, or {goes_on}"
            )
    begun = any((free.folder / left).exists() for left in (MODEL, REPORT, "metrics.jsonl", "checkpoints"))
    if begun and code.is_file() and read_text(code) != free.own_files[code]:
        raise ConfigError(
            f"{free.folder}: its training was begun by other code than there is now; give this one another --name, or {goes_on}"
        )


def _arms(study: str, given: parameters.Params) -> Iterator[Run]:
    """The first seed of each arm."""
    values, seen = given.study(study, given.scale), set()
    for run in runs(studies.load(study), values, given.scale, given.where(study, given.scale)):
        if not run.settings and _arm_name(run) not in seen:
            seen.add(_arm_name(run))
            yield run


def _arm_name(run: Run) -> str:
    """The name of its run without the seed."""
    return run.name.removesuffix(f"seed-{run.seed}").removesuffix("_")


def _arm(arms: Sequence[Run], arm: str | None, where: str) -> Run:
    if arm is None:
        return arms[0]
    named = {_arm_name(run): run for run in arms}
    values = {value for run in arms for value in run.factors.values() if isinstance(value, str)}
    found = [name for name, run in named.items() if arm in (name, *map(str, run.factors.values()))]
    if not found:
        raise ConfigError(f"--arm {arm}: {where} has no such arm{nearest(arm, [*named, *sorted(values)])}")
    if len(found) > 1:
        raise ConfigError(f"--arm {arm}: several arms of {where} are called so, {', '.join(found)}; name one of these")
    return named[found[0]]


def _overridden(values: Mapping[str, Any], overrides: Sequence[str], where: str) -> dict[str, Any]:
    """With each override, of which a batch of rows is told in tokens."""
    rows, others = None, []
    for item in overrides:
        path, _, text = item.partition("=")
        at = yaml_file.keys(path)
        if at[0] in TOLD:
            instead = f"{TOLD[at[0]]} says it" if TOLD[at[0]] else "a free run has its own"
            raise ConfigError(f"--set {item}: {at[0]} is not set, {instead}; remove it")
        if at == ["model", "preset"]:  # every key of the model is there by now, so that nothing of it would be taken
            raise ConfigError(f"--set {item}: model.preset is not set, --preset says it; remove it")
        if ".".join(at) == ROWS:
            rows = yaml_file.parse(text, f"--set {item}")
        else:
            others.append(item)
    values = yaml_file.override(values, others, f"a run of {where}")
    if rows is None:
        return values
    if any(".".join(yaml_file.keys(item.partition("=")[0])) == "training.tokens_per_step" for item in others):
        raise ConfigError(f"--set {ROWS}: training.tokens_per_step is set too, and both say how long an update is; remove one")
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ConfigError(f"--set {ROWS}: needs a whole number of rows, 1 or more (got {shown(rows)})")
    data = DATA.parse(values["data"], "data")
    if not isinstance(data, TextConfig):
        raise ConfigError(
            f"--set {ROWS}: data of kind {values['data']['kind']} has no rows of one length; set training.tokens_per_step"
        )
    return yaml_file.override(values, [f"training.tokens_per_step={rows * data.block_size}"], where)


def _measured(run: Run, parts: Mapping[str, Any]) -> tuple[Run, list[str]]:
    """The run with those of the study's parts that can measure it, and why the others cannot."""
    kept = {}
    left_out: dict[str, str] = {}
    for name, settings in parts.items():
        part = Run.parse(dict(run) | {"evaluation": {name: settings}}, f"free run of {run.study}").evaluation[name]
        try:
            part.check(run)
            kept[name] = part
        except ConfigError as error:
            left_out[name] = str(error)
    for name, part in list(kept.items()):
        if isinstance(part, DerivedConfig) and not {f"{run.name}/parts/{other}" for other in kept}.issuperset(part.reads(run)):
            left_out[name] = "reads what is measured on other runs of the study"
            del kept[name]
    return run.replace(evaluation=kept), [f"evaluation.{name} is left out: {reason}" for name, reason in left_out.items()]


def _is_that_data(free: FreeRun) -> None:
    found = free.run.data.description(free.data).get("id")
    if found != free.run.data.id:
        raise ConfigError(f"--data {free.data}: holds the data {found}, and the run needs {free.run.data.id}; leave it out")


def _prepare(free: FreeRun) -> None:
    if free.is_prepared:  # by the process that was waited for
        return
    assert isinstance(free.run.data, DataConfig)
    for path, text in free.files.items():
        if (free.root / path).parent == free.data:
            write_if_different(free.root / path, text)
    say(f"{free.data}: preparing the data")
    free.run.data.prepare(free.data)
