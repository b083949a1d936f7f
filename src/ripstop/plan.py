"""The plan: every run of every study as files that say exactly what each of its stages depends on.

A stage is stale when one of its input files changed, and these files change only with what the stage really uses: the
resolved configuration, and a digest of the code below it. They travel with the results, so a fresh clone, a DVC
experiment and a cluster node all see the same truth (Snakemake's own record of parameters does not travel).

Planning looks and writes nothing; who executes a stage writes its files (`Plan.write`). What left the grid stays where it
is until `ripstop prune`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ripstop import provenance
from ripstop.accepted import Accepted
from ripstop.config import ConfigError, nearest
from ripstop.files import cache_folder, write_if_different
from ripstop.job_groups import job_groups
from ripstop.params import Params
from ripstop.stage_files import ASSEMBLE, CHOOSE, NOT_ACCEPTED, PRINT, code_line, files_of_data, files_of_run, printing_code

MOVES_NO_NUMBER = "what it resolves stands in the files it writes"


@runtime_checkable
class ReadsFiles(Protocol):
    """A part of an evaluation that reads files which are no data, and whose settings hold their digests."""

    def local_files(self) -> list[Path]:
        """Those files."""


@dataclass(frozen=True)
class Part:
    """A job of one part of a run's evaluation."""

    environment: str
    exclusive: bool
    reads: list[str] = field(default_factory=list)
    """Folders of other parts, below the study's `runs`, that have to be there first: `<run>/parts/<part>`."""
    group: str = ""
    """The group of jobs that share one job of a cluster; "" where it has its own."""


@dataclass(frozen=True)
class Job:
    """What the workflow has to know of a run: its data, its parts, and what its jobs ask of their machine."""

    data: str
    trains: bool
    parts: dict[str, Part]
    threads: int
    gpus: int
    gpu_model: str | None
    nodes: int
    processes: int
    """That train together, on all nodes."""
    mem_mb: int
    runtime: int
    evaluation_runtime: int
    environment: str
    work: int
    choice: str = ""
    """The choice that its settings come from."""
    group: str = ""
    """The group that its training is in, as a part has one."""


@dataclass(frozen=True)
class Plan:
    """What the workflow has to make at one scale.

    files: path below results/<scale> -> text, of every input file.
    local: files that prepared data or settings depend on -> (size, time stamp) when they were read.
    """

    scale: str
    runs: dict[str, dict[str, Job]]
    files: dict[str, str]
    local: dict[str, list[int]] = field(default_factory=dict)
    reads: dict[str, list[str]] = field(default_factory=dict)
    """study -> other studies whose records its printer reads"""
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """study -> what its parameters dropped at this scale and its printer names: `factor=value`, `part=name`"""
    choices: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """study -> choice -> the candidates that it is made from"""
    accepted: list[str] = field(default_factory=list)
    """What is kept under a digest of other code, one sentence for each reason."""

    @property
    def studies(self) -> list[str]:
        return list(self.runs)

    @property
    def data(self) -> list[str]:
        """Ids of all prepared data, each once."""
        return sorted({job.data for runs in self.runs.values() for job in runs.values()})

    @property
    def groups(self) -> dict[str, int]:
        """Group -> how many trainings and parts of evaluations are in it."""
        jobs = [job for runs in self.runs.values() for job in runs.values()]
        groups = [job.group for job in jobs] + [part.group for job in jobs for part in job.parts.values()]
        return Counter(filter(None, groups))

    def folder(self, root: Path = Path()) -> Path:
        return root / "results" / self.scale

    def write(self, names: Iterable[str] | None = None, root: Path = Path()) -> None:
        """Write the input files (all, or those called `names`) where they differ from what lies there."""
        for name in self.files if names is None else names:
            write_if_different(self.folder(root) / name, self.files[name])
            beside = name.removesuffix("reporting.yaml") + "parallel.yaml"
            if name.endswith("/reporting.yaml") and beside not in self.files:
                (self.folder(root) / beside).unlink(missing_ok=True)  # it says something again only where a study does


def plan(params: Params, root: Path = Path()) -> Plan:
    """The plan of the scale in force. Nothing below `root` is written.

    Torch is imported only where parameters, code or local data changed since the last plan: the outcome is kept in the
    user's cache under a digest of all of them.
    """
    accepted = Accepted.read(root)
    key = provenance.digest(
        json.dumps([params.model_dump(mode="json"), provenance.source_key(), accepted.key, str(root.resolve())])
    )
    found = _remembered(key)
    if found is None:
        found = _resolve(params, accepted)
        _remember(key, found)
    _has_sections(found, Path(params.file).parent)
    return found


def _has_sections(plan: Plan, root: Path) -> None:
    """Each study has its section in the paper beside the parameters, which is put together only when everything is trained."""
    for study in plan.studies:
        path = root / "paper/sections" / f"{study}.tex"
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; the paper has a section for every study: add it, or restore it with git")


def _memo(key: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "plans" / f"{key}.json"


def _remembered(key: str) -> Plan | None:
    memo = _memo(key)
    try:
        found = json.loads(memo.read_text(encoding="utf-8")) if memo else None
        if found is None or found["local"] != {path: _stamp(Path(path)) for path in found["local"]}:
            return None
        runs = {
            study: {run: Job(**job | {"parts": {p: Part(**v) for p, v in job["parts"].items()}}) for run, job in jobs.items()}
            for study, jobs in found.pop("runs").items()
        }
        return Plan(runs=runs, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # written by another version, or cut short: it is made again


def _remember(key: str, made: Plan) -> None:
    memo = _memo(key)
    try:
        if memo is not None:
            write_if_different(memo, json.dumps(asdict(made)))
    except (OSError, ConfigError):
        pass  # a cache that cannot be written costs seconds, not results


def _resolve(params: Params, accepted: Accepted) -> Plan:
    """The grid, and every input file of its stages."""
    from ripstop.runs import Run  # imports torch

    found = _all_runs(params)
    jobs: dict[str, dict[str, Job]] = {}
    files: dict[str, str] = {}
    local: dict[str, list[int]] = {}
    reads: dict[str, list[str]] = {}
    dropped: dict[str, list[str]] = {}
    choices: dict[str, dict[str, list[str]]] = {}
    for name in params.studies:
        parts_read = {
            f"{run.name}/parts/{part}": _read_by(config, run) for run in found[name] for part, config in run.evaluation.items()
        }
        groups = job_groups(name, found[name], parts_read)
        jobs[name] = {}
        for run in found[name]:
            assert isinstance(run, Run)
            jobs[name][run.name] = _job(run, groups)
            files |= files_of_run(name, run, accepted)
            home = f"data/{run.data.id}"
            if f"{home}/config.yaml" not in files:
                try:
                    files |= files_of_data(home, run.data, accepted)
                except ConfigError as error:
                    raise ConfigError(f"{params.where(name, params.scale)}: {run.name}: {error}") from None
                local |= {str(path): _stamp(path) for path in run.data.local_files()}
            read = [part.local_files() for part in run.evaluation.values() if isinstance(part, ReadsFiles)]
            local |= {str(path): _stamp(path) for paths in read for path in paths}
        printer = f"ripstop.paper.studies.{name}"
        reads[name] = _reads(params, name)
        dropped[name] = _dropped(params, name, found[name])
        for other in reads[name]:
            dropped[name] += [f"{other}/{item}" for item in _dropped(params, other, found[other])]
        files[f"{name}/paper.code"] = printing_code([*PRINT, printer])
        choices[name] = _choices(found[name])
        if choices[name]:
            files[f"{name}/choose.code"] = code_line(CHOOSE, NOT_ACCEPTED)
    files["paper.code"] = printing_code(ASSEMBLE)
    return Plan(params.scale, jobs, files, local, reads, dropped, choices, accepted.sentences(params.scale))


def _reads(params: Params, study: str) -> list[str]:
    """The other studies whose records the printer of `study` reads."""
    from ripstop.paper import studies as printers

    others = list(printers.reads(study))
    for other in others:
        if other not in params.studies:
            raise ConfigError(f"{_printer(study)}: READS names study {other!r}{nearest(other, list(params.studies))}")
    return others


def _job(run: Any, groups: dict[str, str]) -> Job:
    """groups: run, or run/parts/part -> its group."""
    resources = run.resources
    return Job(
        data=run.data.id,
        trains=run.training is not None,
        parts={
            name: Part(part.environment, part.exclusive, _read_by(part, run), groups.get(f"{run.name}/parts/{name}", ""))
            for name, part in run.evaluation.items()
        },
        threads=run.compute.threads,
        gpus=run.n_gpus,
        gpu_model=resources.gpu_model,
        nodes=resources.nodes,
        processes=run.n_processes,
        mem_mb=resources.mem_mb,
        runtime=resources.runtime,
        evaluation_runtime=resources.evaluation_runtime,
        environment=resources.environment,
        work=run.work,
        choice="" if run.settings else run.choice,
        group=groups.get(run.name, ""),
    )


def _read_by(part: Any, run: Any) -> list[str]:
    """What a part reads of what other parts leave."""
    from ripstop.evaluation.derived import DerivedConfig  # imports torch

    return part.reads(run) if isinstance(part, DerivedConfig) else []


def _choices(found: list[Any]) -> dict[str, list[str]]:
    """choice -> its candidates."""
    candidates: dict[str, list[str]] = {}
    for run in found:
        if run.settings:
            candidates.setdefault(run.choice, []).append(run.name)
    return candidates


def _dropped(params: Params, study: str, found: list[Any]) -> list[str]:
    """What the printer names and this scale does not have, because its parameters say so."""
    from ripstop.paper import studies as printers

    taken = {path.rpartition(".")[2] for path in params.dropped(study, params.scale)}
    measured = {part for run in found for part in run.evaluation}
    arms, parts = printers.named(study)
    return [
        *(f"{factor}={value}" for factor, values in arms.items() for value in sorted(taken & values)),
        *(f"part={part}" for part in sorted(parts - measured)),
    ]


def _all_runs(params: Params) -> dict[str, list[Any]]:
    """Study -> its runs at the scale in force. Every mistake of every study at every scale is told, in one error."""
    from ripstop import studies
    from ripstop.studies.base import runs

    mistakes: dict[str, None] = {}
    in_the_block: set[tuple[str, str]] = set()
    found: dict[str, list[Any]] = {}
    for scale in params.scales:  # the default one first: what is wrong in a study's own block is told once
        for name in params.studies:
            where = params.where(name, scale)
            try:
                made = list(runs(studies.load(name), params.study(name, scale), scale, where))
                _each_once(made, where)
                _is_made(made, where)
                _is_printed(params, name, scale, made)
                if scale == params.scale:
                    found[name] = made
            except ConfigError as error:
                if not str(error).startswith(where):
                    mistakes[str(error)] = None
                    continue
                for mistake in str(error).removeprefix(where).split(f"; {where}"):
                    if (name, mistake) not in in_the_block:
                        mistakes[where + mistake] = None
                    if scale == params.scales[0]:
                        in_the_block.add((name, mistake))
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return found


def _each_once(found: list[Any], where: str) -> None:
    seen: set[str] = set()
    for run in found:
        if run.name in seen:
            raise ConfigError(f"{where}: two runs are named {run.name}; remove the repeated value")
        seen.add(run.name)


def _is_made(found: list[Any], where: str) -> None:
    """What the parts read of other parts is measured by the study."""
    there = {f"{run.name}/parts/{part}" for run in found for part in run.evaluation}
    for run in found:
        for name, part in run.evaluation.items():
            for needed in _read_by(part, run):
                if needed not in there:
                    near = nearest(needed, sorted(there))
                    raise ConfigError(f"{where}: evaluation.{name} reads {needed}, which no run of the study measures{near}")


def _is_printed(params: Params, study: str, scale: str, found: list[Any]) -> None:
    """The study has its printer, and each arm that this names is there or was dropped: told before anything trains."""
    from ripstop.paper import studies as printers

    if study not in printers.names():
        raise ConfigError(f"study {study!r} has no module {_printer(study)} that prints it; add it (see the README)")
    taken = {path.rpartition(".")[2] for path in params.dropped(study, scale)}
    for factor, named in printers.named(study)[0].items():
        arms = {str(run.factors[factor]) for run in found if factor in run.factors}
        for name in sorted(named):
            if name not in arms | taken:
                raise ConfigError(
                    f"{params.where(study, scale)}: {_printer(study)} prints {factor} {name!r}, and no arm has it"
                    f"{nearest(name, sorted(arms))}; rename both, or keep the arm and take it out by `drop`"
                )


def _printer(study: str) -> str:
    return f"src/ripstop/paper/studies/{study}.py"


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
