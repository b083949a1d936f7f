"""Parallel documents from files: the same from JSONL, JSON and Parquet, and every fault in one sentence."""

from __future__ import annotations

import errno
import json
import os
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
    elif ending == "json":
        (folder / f"{split}.json").write_text(json.dumps(rows, indent=1))
    else:
        (folder / f"{split}.{ending}").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
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
        ({"document": "a", "en": ["x"], "de": None}, "document 'a' holds no list of strings in the column 'de'"),
        ({"document": "a", "en": ["x", None], "de": ["z", "y"]}, "document 'a' holds no list of strings in the column 'en'"),
        ({"document": "a", "en": [], "de": []}, "document 'a' holds no pair of sentences; remove it"),
        ({"document": "a", "en": ["x", " "], "de": ["", "y"]}, "document 'a' holds no pair of sentences; remove it"),
        ({"document": None, "en": [], "de": []}, "document '0' holds no pair of sentences; remove it"),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_bad_rows_are_named(tmp_path: Path, ending: str, row: dict[str, Any], message: str) -> None:
    write(tmp_path, ending, [row])
    with pytest.raises(ConfigError, match=message) as caught:
        list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))
    assert f"train.{ending}" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_or_doubled_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, "jsonl", ROWS)
    config = HubConfig(path=str(tmp_path))
    with pytest.raises(ConfigError, match=r"test\{\.jsonl,\.json,\.parquet\}: 0 files, must be one"):
        list(documents(config, "test", "en", "de"))
    write(tmp_path, "parquet", ROWS)
    with pytest.raises(ConfigError, match="2 files, must be one"):
        list(documents(config, "train", "en", "de"))


def refused(folder: Path, split: str = "train") -> str:
    with pytest.raises(ConfigError) as caught:
        list(documents(HubConfig(path=str(folder)), split, "en", "de"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


GOOD = json.dumps(ROWS[0]).encode() + b"\n"


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        ("jsonl", b'{"document": "a", "en": [', "train.jsonl:1: not a JSON line"),
        ("jsonl", GOOD + b"\n\n" + GOOD + b"}\n", "train.jsonl:5: not a JSON line"),
        ("jsonl", GOOD + b"[1]\n", "train.jsonl: document 1 is no mapping of columns"),
        ("jsonl", GOOD + b'"words"\n', "train.jsonl: document 1 is no mapping of columns"),
        ("jsonl", b"[" * 10**5, "train.jsonl:1: not a JSON line"),
        ("jsonl", b"", "train.jsonl: holds no document; fill it, or set data.source"),
        ("jsonl", b" \n\n", "train.jsonl: holds no document"),
        ("jsonl", GOOD.replace(b"house", b"h\xfcuse"), "train.jsonl: is not UTF-8 (byte 0xfc); convert it"),
        ("jsonl", "Größe".encode("utf-16"), "train.jsonl: is not UTF-8 (byte 0xff)"),
        ("jsonl", GOOD.replace(b"house", b"\\ud83d"), "holds '\\ud83d', which is no character"),
        ("json", b'[{"document": "a"', "train.json: not a JSON list"),
        ("json", b"[]", "train.json: holds no document"),
        ("json", b"\xff\xfe", "train.json: is not UTF-8"),
        ("parquet", b"", "train.parquet: cannot be read as Parquet"),
        ("parquet", GOOD, "train.parquet: cannot be read as Parquet"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, ending: str, content: bytes, message: str) -> None:
    (tmp_path / f"train.{ending}").write_bytes(content)
    found = refused(tmp_path)
    assert message in found and found.startswith(str(tmp_path))


def test_a_cut_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, "parquet", ROWS * 50)
    whole = (tmp_path / "train.parquet").read_bytes()
    for cut in (whole[: len(whole) // 2], whole[:-1], whole[:20] + bytes(20) + whole[40:]):
        (tmp_path / "train.parquet").write_bytes(cut)
        assert "train.parquet: cannot be read as Parquet" in refused(tmp_path)
    pq.write_table(pa.Table.from_pylist([], schema=pa.schema({"document": pa.string()})), tmp_path / "train.parquet")
    assert "holds no document" in refused(tmp_path)


def test_a_byte_order_mark_and_blank_lines_are_tolerated(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD.strip())
    assert len(list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))) == 2


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_foreign_files_beside_the_splits_are_left_alone(tmp_path: Path, ending: str) -> None:
    write(tmp_path, ending, ROWS)
    for name in (".DS_Store", f"._train.{ending}", "README.md", f"train.{ending}.bak"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "train.d").mkdir()
    assert len(list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))) == 2


def test_nothing_is_cached_so_that_an_edit_is_seen(tmp_path: Path) -> None:
    write(tmp_path, "jsonl", ROWS)
    config = HubConfig(path=str(tmp_path))
    before = (tmp_path / "train.jsonl").stat()
    assert [d.id for d in documents(config, "train", "en", "de")] == ["a", "b"]
    (tmp_path / "train.jsonl").write_text((tmp_path / "train.jsonl").read_text().replace('"b"', '"c"'))
    os.utime(tmp_path / "train.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [d.id for d in documents(config, "train", "en", "de")] == ["a", "c"]


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "~nobody-of-this-name/x"])
def test_a_folder_that_does_not_exist(path: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.source\.path: .*(is no folder|cannot be looked for)") as caught:
        HubConfig(path=path).local_file("train")
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root user may read everything, so the system's answer is put in its place."""
    write(tmp_path, "jsonl", ROWS)

    def no(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", no)
    assert refused(tmp_path) == f"{tmp_path / 'train.jsonl'}: cannot be read (Permission denied); check data.source"


@pytest.mark.parametrize(
    "error", [ConnectionError("no route\nto host"), RuntimeError(""), OSError(30, "Read-only file system", "c")]
)
def test_whatever_the_loader_of_a_hub_raises_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(ConfigError, match="dataset 'nobody/nothing', split 'test': cannot be loaded .*HF_HOME") as caught:
        list(documents(HubConfig(path="nobody/nothing"), "test", "en", "de"))
    assert "\n" not in str(caught.value)


def test_rows_of_a_hub_are_read_like_those_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(*arguments: Any, **named: Any) -> datasets.Dataset:
        asked.append((arguments, named))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr("datasets.load_dataset", load)
    config = HubConfig(path="some/body", name="en-de", revision="v1", splits={"valid": "dev"})
    assert [d.source for d in documents(config, "valid", "en", "de")] == [["One house.", "Two houses."], ["Three."]]
    assert asked == [(("some/body", "en-de"), {"split": "dev", "revision": "v1", "streaming": False})]


SENTENCES = [
    {"id": "a", "translation": {"en": "One  house.", "de": "Ein Haus."}},
    {"id": "a", "translation": {"en": "Two.", "de": "Zwei."}},
    {"id": "b", "translation": {"en": "Three.", "de": "Drei."}},
]


@pytest.fixture
def wmt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local dataset of the format of WMT, read by the real library."""
    import datasets

    real = datasets.load_dataset
    files = {}
    for split, rows in (("train", SENTENCES), ("validation", SENTENCES[2:])):
        files[split] = str(tmp_path / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def load(path: str, name: str | None, **named: Any) -> Any:
        assert (path, name) == ("wmt/wmt14", "de-en") and named.pop("revision") is None
        return real("json", data_files=files, cache_dir=str(tmp_path / "cache"), **named)

    monkeypatch.setattr("datasets.load_dataset", load)


@pytest.mark.parametrize("streaming", [False, True])
def test_sentences_of_the_hub_streamed_or_not(wmt: None, streaming: bool) -> None:
    columns = {"en": "translation.en", "de": "translation.de"}
    config = HubConfig(
        path="wmt/wmt14", name="de-en", splits={"valid": "validation"}, document=None, columns=columns, streaming=streaming
    )
    alone = [
        Document("0", ["One house."], ["Ein Haus."]),
        Document("1", ["Two."], ["Zwei."]),
        Document("2", ["Three."], ["Drei."]),
    ]
    assert list(documents(config, "train", "en", "de")) == alone
    assert [d.source for d in documents(config, "valid", "de", "en")] == [["Drei."]]
    assert list(documents(config.replace(most_documents=2), "train", "en", "de")) == alone[:2]
    together = [Document("a", ["One house.", "Two."], ["Ein Haus.", "Zwei."]), Document("b", ["Three."], ["Drei."])]
    assert list(documents(config.replace(document="id"), "train", "en", "de")) == together
    with pytest.raises(ConfigError, match="dataset 'wmt/wmt14', split 'test': cannot be loaded"):
        list(documents(config, "test", "en", "de"))
    with pytest.raises(ConfigError, match=r"has no column 'translation\.fr', only id, translation; set data\.source"):
        list(documents(config.replace(columns=columns | {"fr": "translation.fr"}), "train", "en", "fr"))


def test_sentences_in_files_are_grouped_by_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"document": d, "en": f"e{i}", "de": f"d{i}"} for i, d in enumerate("aabba")]
    write(tmp_path, "jsonl", [*rows, {"document": "list", "en": ["x"], "de": ["y"]}, rows[0]])
    found = list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))
    assert [d.source for d in found] == [["e0", "e1"], ["e2", "e3"], ["e4"], ["x"], ["e0"]]
    monkeypatch.setattr("ripstop.data.hub.MOST_SENTENCES", 1)
    with pytest.raises(ConfigError, match=r"document 'a' has more than 1 sentences; set data\.source\.document to the column"):
        list(documents(HubConfig(path=str(tmp_path)), "train", "en", "de"))


def test_a_hub_name_without_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="dataset 'nobody/nothing', split 'train': cannot be loaded"):
        list(documents(HubConfig(path="nobody/nothing"), "train", "en", "de"))
