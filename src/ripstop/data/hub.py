"""Parallel documents with `datasets`: from the hub or from local JSONL and Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import datasets
from datasets.exceptions import DatasetsError
from pydantic import Field

from ripstop.config import ConfigError, Strict

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


class Document(NamedTuple):
    """Aligned pieces of one document (verses, sentences): source[i] says what target[i] says."""

    id: str
    source: list[str]
    target: list[str]


class SplitNames(Strict):
    """What the dataset calls each split; of a local folder, the file's name without its ending."""

    train: str = "train"
    valid: str = "valid"
    test: str = "test"


class HubConfig(Strict):
    """A dataset of rows (document id, list of sentences, list of their translations)."""

    path: str = Field(description="name on the hub, or a local folder of JSONL or Parquet files, one for each split")
    name: str | None = Field(None, description="the dataset's configuration, on the hub")
    revision: str | None = Field(None, description="commit or tag, on the hub")
    splits: SplitNames = SplitNames()
    document: str = Field("document", description="column of the document's id")
    columns: dict[str, str] = Field({"en": "en", "de": "de"}, description="language -> column of the list of its sentences")


def documents(config: HubConfig, split: str, source: str, target: str) -> Iterator[Document]:
    """The documents of "train", "valid" or "test", with `source` and `target` languages that `config.columns` names."""
    rows, where = _load(config, getattr(config.splits, split))
    wanted = [config.document, *(config.columns[language] for language in (source, target))]
    for column in wanted:
        if column not in rows.column_names:
            raise ConfigError(f"{where}: has no column {column!r}, only {', '.join(rows.column_names)}; set data.source")
    for row in rows:
        identity, sources, targets = (row[column] for column in wanted)
        for column, sentences in zip(wanted[1:], (sources, targets), strict=True):
            if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
                raise ConfigError(f"{where}: document {identity!r} holds no list of strings in the column {column!r}")
        if len(sources) != len(targets):
            raise ConfigError(
                f"{where}: document {identity!r} has {len(sources)} sentences in {wanted[1]!r} and {len(targets)} in "
                f"{wanted[2]!r}; they must be aligned one to one"
            )
        yield Document(str(identity), [" ".join(s.split()) for s in sources], [" ".join(s.split()) for s in targets])


def _load(config: HubConfig, split: str) -> tuple[datasets.Dataset, str]:
    """The rows of one split, and words for where they are."""
    folder = Path(config.path).expanduser()
    try:
        if not folder.is_dir():
            where = f"dataset {config.path!r}, split {split!r}"
            return datasets.load_dataset(config.path, config.name, split=split, revision=config.revision), where
        files = [folder / f"{split}{ending}" for ending in FORMATS if (folder / f"{split}{ending}").is_file()]
        where = f"{folder / split}{{{','.join(FORMATS)}}}"
        if len(files) != 1:
            raise ConfigError(f"{where}: {len(files)} files, must be one; put it there or set data.source.splits")
        where = str(files[0])
        return datasets.load_dataset(FORMATS[files[0].suffix], data_files={split: where}, split=split), where
    except ConfigError:
        raise
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{where}: cannot be loaded ({reason}); check data.source, or load it once where there is a network"
        ) from error
