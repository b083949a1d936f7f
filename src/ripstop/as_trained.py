"""Whether the weights of a run are those that its files describe, for what a reader does with a trained run."""

from __future__ import annotations

import json
from pathlib import Path

from ripstop import choices, provenance
from ripstop.config import ConfigError
from ripstop.data.base import DESCRIPTION, file_digest
from ripstop.data.documents import DocumentsConfig
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import Tokenizer
from ripstop.files import read_text
from ripstop.runs import Run
from ripstop.training.results import MODEL, REPORT

MOVES_NO_NUMBER = "it refuses what does not belong together"
TOKENIZER = "tokenizer.json"


def data_of_trained(run: Run, run_dir: Path, data: Path | None) -> Path:
    """The prepared data that the run was trained with, beside it or at `data`; `ConfigError` unless all of it fits together."""
    if run.training is None or not all((run_dir / name).is_file() for name in (MODEL, REPORT)):
        raise ConfigError(f"{run_dir}: is not trained; run `python -m ripstop train {run_dir}` with its data")
    folder = run.data_beside(run_dir) if data is None else data
    found = run.data.description(folder).get("id")
    if found != run.data.id:
        raise ConfigError(
            f"{folder}: holds the data {found}, and the run was trained on {run.data.id}; name the folder of that"
        )
    _check_report(run_dir, folder)
    return folder


def tokenizer_as_prepared(data: DocumentsConfig | TextConfig, folder: Path) -> Tokenizer:
    """The one that the data was prepared with: ids of another are other words, or none that the model knows."""
    tokenizer, path = data.load_tokenizer(folder), folder / TOKENIZER
    if file_digest(path) != data.description(folder)["files"].get(TOKENIZER):
        raise ConfigError(
            f"{path}: is not the file that {DESCRIPTION} describes, it was damaged or edited; "
            f"run `python -m ripstop prepare {folder}`"
        )
    return tokenizer


def _check_report(run_dir: Path, folder: Path) -> None:
    """`ConfigError` where the weights are not those that the report names, or were trained on other data or settings than
    lie here now. By other code they may be: that is what an older run is."""
    path, weights = run_dir / REPORT, run_dir / MODEL
    again = f"run `python -m ripstop train {run_dir}` with its data"
    try:
        report = json.loads(read_text(path))
        trained, digest, outcome = report["identity"], report["model_sha256"], report.get("outcome")
        made = {"configuration": trained["configuration"], "data": trained["data"]}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: not a report of a training; {again}") from None
    if provenance.file_sha256(weights) != digest:
        raise ConfigError(f"{weights}: is not the model that {REPORT} describes, or damaged; delete both and {again}")
    if outcome == "diverged":
        raise ConfigError(f"{path}: says that the training diverged, so that nothing was learnt; name another run")
    now = {
        "configuration": provenance.digest(choices.resolved(run_dir)),
        "data": provenance.digest((folder / DESCRIPTION).read_bytes()),
    }
    differ = [name for name in now if made[name] != now[name]]
    if differ:
        raise ConfigError(
            f"{weights}: was trained with another {' and another '.join(differ)} than there is now; {again} again"
        )
