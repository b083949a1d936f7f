"""Parallel documents from files, read by the real `datasets`: the same from JSONL and Parquet, faults in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ripstop.config import ConfigError
from ripstop.data.hub import Document, HubConfig, documents

ROWS = [
    {"document": "a", "en": ["One  house.", "Two houses."], "de": ["Ein Haus.", "Zwei\u00a0Häuser."]},
    {"document": "b", "en": ["Three."], "de": ["Drei."]},
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def write(folder: Path, ending: str, rows: list[dict[str, Any]], split: str = "train") -> None:
    folder.mkdir(exist_ok=True)
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    else:
        (folder / f"{split}.{ending}").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_documents_in_order_with_tidy_spaces(tmp_path: Path, ending: str) -> None:
    write(tmp_path, ending, ROWS)
    config = HubConfig(path=str(tmp_path))
    assert list(documents(config, "train", "en", "de")) == [
        Document("a", ["One house.", "Two houses."], ["Ein Haus.", "Zwei Häuser."]),
        Document("b", ["Three."], ["Drei."]),
    ]
    assert next(documents(config, "train", "de", "en")).source == ["Ein Haus.", "Zwei Häuser."]


def test_names_of_columns_and_splits(tmp_path: Path) -> None:
    rows = [{"id": 3, "src": ["x"], "tgt": ["y"]}]
    write(tmp_path, "jsonl", rows, "dev")
    config = HubConfig(path=str(tmp_path), splits={"valid": "dev"}, document="id", columns={"en": "src", "fr": "tgt"})
    assert list(documents(config, "valid", "fr", "en")) == [Document("3", ["y"], ["x"])]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"document": "a", "en": ["x", "y"], "de": ["z"]}, "document 'a' has 2 sentences in 'en' and 1 in 'de'"),
        ({"document": "a", "en": "x", "de": ["z"]}, "document 'a' holds no list of strings in the column 'en'"),
        ({"document": "a", "en": [1], "de": ["z"]}, "document 'a' holds no list of strings in the column 'en'"),
        ({"document": "a", "en": ["x"]}, "has no column 'de', only document, en"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write(tmp_path, "jsonl", [row])
    with pytest.raises(ConfigError, match=message) as caught:
        list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))
    assert "train.jsonl" in str(caught.value)


def test_missing_or_doubled_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, "jsonl", ROWS)
    config = HubConfig(path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"test\{\.jsonl,\.json,\.parquet\}: 0 files, must be one"):
        list(documents(config, "test", "en", "de"))
    write(tmp_path, "parquet", ROWS)
    with pytest.raises(ConfigError, match="2 files, must be one"):
        list(documents(config, "train", "en", "de"))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"train.{ending}").write_text('{"document": "a", "en": [')
    with pytest.raises(ConfigError, match="not a JSON line|cannot be read as Parquet") as caught:
        list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_hub_name_without_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="dataset 'nobody/nothing', split 'train': cannot be loaded"):
        list(documents(HubConfig(path="nobody/nothing"), "train", "en", "de"))
