"""The input files of a stage: what it is told, and a digest of the code below it, a line each."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from ripstop import code_history, provenance, yaml_file
from ripstop.accepted import Accepted
from ripstop.code_digest import code_digest
from ripstop.config import Strict, walk

TRAIN = ["ripstop.training.train"]
CHOOSE = ["ripstop.choices"]
EVALUATE = ["ripstop.evaluation.evaluate"]
PRINT = ["ripstop.records", "ripstop.paper.render"]
ASSEMBLE = ["ripstop.paper.assemble"]
NOT_ACCEPTED = Accepted([])
"""What chooses and prints takes seconds: its code is never accepted for another."""
MOVES_NO_NUMBER = "what it resolves stands in the files it writes"


def files_of_run(study: str, run: Any, accepted: Accepted) -> dict[str, str]:
    """Every input file of the run's stages, by its path below the results."""
    home = f"{study}/runs/{run.name}"
    files = {f"{home}/{file}": text for file, text in run.files().items()}
    cuda = run.compute.device == "cuda"
    for stage, modules in code_of_run(run).items():
        files[f"{home}/{stage}.code"] = code_line(modules, accepted, cuda)
    return files


def code_of_run(run: Any) -> dict[str, frozenset[str]]:
    """Stage of the run -> the modules that its code starts from."""
    below = _modules(run.model) | _modules(run.data)
    trained = below | (_modules(run.training) if run.training else set())
    return {
        "train": frozenset([*trained, *TRAIN]),
        **{name: frozenset([*below, *_modules(part), *EVALUATE]) for name, part in run.evaluation.items()},
    }


def files_of_data(home: str, data: Any, accepted: Accepted) -> dict[str, str]:
    """Every input file of a preparation, by its path below the results. home: folder of the data, below them too."""
    files = {
        f"{home}/config.yaml": yaml_file.dump(data.model_dump(mode="json")),
        f"{home}/prepare.code": code_line(_modules(data), accepted),
    }
    held = {str(path): provenance.file_sha256(path) for path in data.local_files()}
    return files | ({f"{home}/local.json": json.dumps(held, indent=1) + "\n"} if held else {})


def printing_code(modules: list[str]) -> str:
    """The line of what prints: its code, and the templates of the paper."""
    return f"{code_line(modules, NOT_ACCEPTED).strip()} {provenance.files_digest('paper/templates/*.j2')}\n"


def code_line(modules: Iterable[str], accepted: Accepted, cuda: bool = False) -> str:
    """The digest of code, or the one that it was accepted for, as a line."""
    found = frozenset(modules)
    return _noted(accepted.origin(_digest(found, cuda)), found, cuda) + "\n"


@functools.cache
def _digest(modules: frozenset[str], cuda: bool) -> str:
    """Once for all runs that share it."""
    return code_digest(modules, cuda)


@functools.cache
def _noted(digest: str, modules: frozenset[str], cuda: bool) -> str:
    """The digest; what it stands for now is kept, so that a change can be told by name."""
    code_history.remember(digest, modules, cuda)
    return digest


def _modules(config: Strict) -> set[str]:
    """The modules whose code a configuration brings in: those of every configuration object inside it."""
    return {type(part).__module__ for part in walk(config)}
