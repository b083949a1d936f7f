"""Parallel documents from the hub by `datasets`, or from local JSONL, JSON and Parquet files, read without any cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from ripstop.config import ConfigError, Strict
from ripstop.data.base import one_line

ENDINGS = (".jsonl", ".json", ".parquet")
MOST_SENTENCES = 100_000
"""Of a document whose sentences stand in rows: more can only mean that the column tells no documents apart."""


class Document(NamedTuple):
    """Aligned pieces of one document (verses, sentences): source[i] says what target[i] says.

    The id is a name for readers: two documents may have the same.
    """

    id: str
    source: list[str]
    target: list[str]


class SplitNames(Strict):
    """What the dataset calls each split; of a local folder, the file's name without its ending."""

    train: str = "train"
    valid: str = "valid"
    test: str = "test"


class HubConfig(Strict):
    """A dataset of rows (document id, list of sentences, list of their translations), or of rows with one sentence each.

    Of the latter, neighbouring rows with the same document id are a document; without a column of ids (WMT, IWSLT) every row
    is one, since nothing says what belongs together. Columns inside others are named with dots: `translation.en`.
    """

    path: str = Field(
        min_length=1, description="name on the hub, or a local folder of JSONL, JSON or Parquet files, one for each split"
    )
    name: str | None = Field(None, description="the dataset's configuration, on the hub")
    revision: str | None = Field(None, description="commit or tag, on the hub")
    splits: SplitNames = SplitNames()
    document: str | None = Field("document", description="column of the document's id; null: there is none")
    columns: dict[str, str] = Field({"en": "en", "de": "de"}, description="language -> column of the list of its sentences")
    streaming: bool = Field(False, description="from the hub, row by row, and not downloaded before")
    most_documents: int | None = Field(None, ge=1, description="the first ones of each split; none given: all")

    @property
    def folder(self) -> Path | None:
        """The local folder, where `path` is one; None: it is a name on the hub."""
        try:
            folder = Path(self.path).expanduser()
            local = folder.is_dir()
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"data.source.path: {self.path!r} cannot be looked for ({one_line(error)}); correct it") from None
        if not local and self.path.startswith(("/", ".", "~")):
            raise ConfigError(f"data.source.path: {self.path!r} is no folder; correct it, or put one there")
        return folder if local else None

    def local_file(self, split: str) -> Path | None:
        """The file of "train", "valid" or "test"; None where the dataset is on the hub."""
        if self.folder is None:
            return None
        stem = self.folder / getattr(self.splits, split)
        files = [path for ending in ENDINGS if (path := stem.with_name(stem.name + ending)).is_file()]
        if len(files) != 1:
            raise ConfigError(
                f"{stem}{{{','.join(ENDINGS)}}}: {len(files)} files, must be one; put it there or set data.source.splits"
            )
        return files[0]


def documents(config: HubConfig, split: str, source: str, target: str) -> Iterator[Document]:
    """The documents of "train", "valid" or "test", with `source` and `target` languages that `config.columns` names.

    `ConfigError` names the file, and the document, that holds something else, or nothing.
    """
    columns = (config.columns[source], config.columns[target])
    file = config.local_file(split)
    if file is None:
        where = f"dataset {config.path!r}, split {getattr(config.splits, split)!r}"
        rows = _hub_rows(config, getattr(config.splits, split), where)
    else:
        where = str(file)
        rows = _parquet_rows(file) if file.suffix == ".parquet" else _json_rows(file)
    number = 0
    for row in _grouped(rows, config.document, columns, where):
        yield _document(row, number, config.document, columns, where)
        number += 1
        if number == config.most_documents:
            return
    if number == 0:
        raise ConfigError(f"{where}: holds no document; fill it, or set data.source")


def _grouped(rows: Iterable[Any], name: str | None, columns: tuple[str, str], where: str) -> Iterator[Any]:
    """Rows of one sentence each as rows of documents; those that hold lists already stay as they are."""
    open_rows: dict[str, Any] | None = None
    for number, row in enumerate(rows):
        row = _flat(row, (name, *columns), number, where)
        texts = [row[column] for column in columns]
        if not all(isinstance(text, str) for text in texts):
            if open_rows is not None:
                yield open_rows
                open_rows = None
            yield row
            continue
        if name is not None and open_rows is not None and row[name] == open_rows[name]:
            for column, text in zip(columns, texts, strict=True):
                open_rows[column].append(text)
            if len(open_rows[columns[0]]) > MOST_SENTENCES:
                raise ConfigError(
                    f"{where}: document {str(row[name])!r} has more than {MOST_SENTENCES} sentences; set "
                    "data.source.document to the column that tells documents apart"
                )
            continue
        if open_rows is not None:
            yield open_rows
        open_rows = {column: [text] for column, text in zip(columns, texts, strict=True)}
        if name is not None:
            open_rows[name] = row[name]
    if open_rows is not None:
        yield open_rows


def _flat(row: Any, names: tuple[str | None, str, str], number: int, where: str) -> dict[str, Any]:
    """The named columns of a row, those inside others too."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: document {number} is no mapping of columns, such as {{'document': ..., 'en': [...]}}")
    found = {}
    for name in names:
        value: Any = row
        for key in [] if name is None else [name] if name in row else name.split("."):
            if not isinstance(value, dict) or key not in value:
                raise ConfigError(f"{where}: has no column {name!r}, only {', '.join(map(str, row))}; set data.source")
            value = value[key]
        if name is not None:
            found[name] = value
    return found


def _document(row: dict[str, Any], number: int, name: str | None, columns: tuple[str, str], where: str) -> Document:
    called = str(number) if name is None or row[name] is None else str(row[name])
    for column in columns:
        sentences = row[column]
        if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
            raise ConfigError(f"{where}: document {called!r} holds no list of strings in the column {column!r}; correct it")
    first, second = (row[column] for column in columns)
    if len(first) != len(second):
        raise ConfigError(
            f"{where}: document {called!r} has {len(first)} sentences in {columns[0]!r} and {len(second)} in "
            f"{columns[1]!r}; they must be aligned one to one"
        )
    sides = [[" ".join(sentence.split()) for sentence in side] for side in (first, second)]
    if not any(a and b for a, b in zip(*sides, strict=True)):
        raise ConfigError(f"{where}: document {called!r} holds no pair of sentences; remove it")
    try:
        " ".join(sides[0] + sides[1]).encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        raise ConfigError(f"{where}: document {called!r} holds {error.object[error.start]!r}, which is no character") from None
    return Document(called, *sides)


def _json_rows(path: Path) -> Iterator[Any]:
    """Objects of a file of JSON lines, or of one JSON list; a byte order mark before them is passed over."""
    try:
        if path.suffix == ".json" and (rows := _json_list(path)) is not None:
            yield from rows
            return
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise ConfigError(f"{path}:{number}: not a JSON line ({one_line(error)}); correct it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.object[error.start]:#x}); convert it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check data.source") from None


def _json_list(path: Path) -> list[Any] | None:
    """The list that a file holds, None where it does not begin like one."""
    text = path.read_text(encoding="utf-8-sig").strip()
    if not text.startswith("["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a JSON list ({one_line(error)}); correct it") from None


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: cannot be read as Parquet ({one_line(error)}); correct it, or set data.source") from None


def _hub_rows(config: HubConfig, split: str, where: str) -> Iterable[Any]:
    import datasets  # takes seconds, and only prepare needs it

    try:
        yield from datasets.load_dataset(
            config.path, config.name, split=split, revision=config.revision, streaming=config.streaming
        )
    except Exception as error:  # whatever the loader of a dataset, the network, the cache or its disk can raise
        raise ConfigError(
            f"{where}: cannot be loaded ({one_line(error)}); check data.source and its cache (HF_HOME), or load it once "
            "where there is a network"
        ) from error
