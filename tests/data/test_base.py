"""Prepared folders: whole or not prepared, what data.json says they are, and one sentence where they are not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ripstop.batch import StreamPlan
from ripstop.config import ConfigError
from ripstop.data.base import DataConfig, RowLength, disk_errors
from ripstop.data.documents import DocumentsConfig
from ripstop.data.mqar import MqarConfig

PLAN = StreamPlan(steps=1, tokens_per_step=200, accumulation=1, seed=0)


def corpus(folder: Path) -> Path:
    folder.mkdir()
    for split, n in (("train", 6), ("valid", 2), ("test", 3)):
        sides = [([f"{split} word {i}", "end"], [f"wort {split} {i}", "ende"]) for i in range(n)]
        rows = [{"document": f"{split} {i}", "en": en, "de": de} for i, (en, de) in enumerate(sides)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def documents(folder: Path, **changes: Any) -> DocumentsConfig:
    values = {"source": {"path": str(folder)}, "tokenizer": {"kind": "bpe", "vocab_size": 300}, "max_tokens": 40}
    return DocumentsConfig.parse(values | changes, "data")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[DocumentsConfig, Path]:
    root = tmp_path_factory.mktemp("base")
    config = documents(corpus(root / "corpus"))
    config.prepare(root / "data")
    return config, root / "data"


@pytest.fixture
def mine(prepared: tuple[DocumentsConfig, Path], tmp_path: Path) -> tuple[DocumentsConfig, Path]:
    """A copy that a test may damage."""
    shutil.copytree(prepared[1], tmp_path / "data")
    return prepared[0], tmp_path / "data"


def test_the_description_names_the_data_and_the_digest_of_every_file(prepared: tuple[DocumentsConfig, Path]) -> None:
    config, folder = prepared
    description = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    assert description["id"] == config.id and description["kind"] == "documents"
    written = {path.name for path in folder.iterdir()} - {"data.json"}
    assert set(description["files"]) == written == set(config.files)
    for name, digest in description["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert set(description["local_files"]) == {"train.jsonl", "valid.jsonl", "test.jsonl"}
    assert config.verify(folder) == description


def test_the_digest_of_the_content_follows_the_content_alone(prepared: tuple[DocumentsConfig, Path], tmp_path: Path) -> None:
    config, folder = prepared
    moved = documents(Path(shutil.copytree(Path(config.source.path), tmp_path / "elsewhere")))
    moved.prepare(tmp_path / "moved")
    content = config.description(folder)["sha256"]
    assert moved.description(tmp_path / "moved")["sha256"] == content
    (tmp_path / "elsewhere/test.jsonl").write_text((tmp_path / "elsewhere/test.jsonl").read_text().replace("word", "ward"))
    moved.prepare(tmp_path / "edited")
    assert moved.description(tmp_path / "edited")["sha256"] != content


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def flipped(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("name", DocumentsConfig().files)
@pytest.mark.parametrize("change", [flipped, lambda content: content[: len(content) // 2], lambda content: b""])
def test_a_damaged_file_is_named(mine: tuple[DocumentsConfig, Path], name: str, change: Callable[[bytes], bytes]) -> None:
    config, folder = mine
    damage(name, change)(folder)
    with pytest.raises(ConfigError, match="was damaged or edited; run `python -m ripstop prepare ") as caught:
        config.verify(folder)
    assert str(caught.value).startswith(str(folder / name)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DocumentsConfig().files)
def test_a_missing_file_is_named(mine: tuple[DocumentsConfig, Path], name: str) -> None:
    config, folder = mine
    (folder / name).unlink()
    with pytest.raises(ConfigError, match="cannot be read \\(No such file or directory\\); run"):
        config.verify(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "\x00", "{}", '{"files": [], "vocab_size": 3}', '{"files": {}, "vocab_size": "x"}', "[" * 10**5],
)
def test_a_broken_description_is_one_sentence(mine: tuple[DocumentsConfig, Path], text: str) -> None:
    config, folder = mine
    (folder / "data.json").write_text(text, encoding="utf-8")
    for ask in (config.verify, config.description, config.info):
        with pytest.raises(ConfigError, match=r"data\.json: .*; run `python -m ripstop prepare") as caught:
            ask(folder)
        assert "\n" not in str(caught.value)
    (folder / "data.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"data\.json: cannot be read"):
        config.verify(folder)
    (folder / "data.json").unlink()
    with pytest.raises(ConfigError, match=r"data\.json: no such file; the data is not prepared"):
        config.verify(folder)


def edits(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The description with each of its keys changed, each taken away, and one added."""
    changed = [description | {key: 3 if key == "vocab_size" else "edited"} for key in description if key not in ("id", "files")]
    without = [
        {k: v for k, v in description.items() if k != key} for key in description if key not in ("id", "files", "vocab_size")
    ]
    return [*changed, *without, description | {"note": "mine"}, description | {"files": description["files"] | {"x": "y"}}]


def test_an_edited_description_is_refused(mine: tuple[DocumentsConfig, Path], tmp_path: Path) -> None:
    config, folder = mine
    mqar = MqarConfig(num_pairs=[2])
    mqar.prepare(tmp_path / "mqar")
    for data, prepared in ((config, folder), (mqar, tmp_path / "mqar")):
        path = prepared / "data.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(description), encoding="utf-8")
        data.verify(prepared)  # other blanks are no other content
        for edited in edits(description):
            path.write_text(json.dumps(edited), encoding="utf-8")
            with pytest.raises(
                ConfigError, match=r"data\.json: is not as it was written, it was edited; run `python -m ripstop"
            ):
                data.verify(prepared)


def test_other_data_is_refused(mine: tuple[DocumentsConfig, Path], tmp_path: Path) -> None:
    config, folder = mine
    other = config.replace(max_tokens=39)
    with pytest.raises(ConfigError, match=f"holds the data {config.id}, and {other.id} is asked for"):
        other.verify(folder)
    mqar = MqarConfig(num_pairs=[2])
    mqar.prepare(tmp_path / "mqar")
    with pytest.raises(ConfigError, match=f"holds the data {mqar.id}, and {config.id} is asked for"):
        config.verify(tmp_path / "mqar")


def test_foreign_files_in_a_folder_are_left_alone(mine: tuple[DocumentsConfig, Path]) -> None:
    config, folder = mine
    for name in (".DS_Store", "config.yaml", "notes.txt"):
        (folder / name).write_text("mine")
    config.verify(folder)
    config.prepare(folder)
    assert all((folder / name).read_text() == "mine" for name in (".DS_Store", "config.yaml", "notes.txt"))


def test_an_edited_corpus_makes_the_data_stale(tmp_path: Path) -> None:
    config = documents(corpus(tmp_path / "corpus"))
    assert config.local_files() == [tmp_path / f"corpus/{split}.jsonl" for split in ("train", "valid", "test")]
    config.prepare(tmp_path / "data")
    path = tmp_path / "corpus/valid.jsonl"
    before = path.stat()
    path.write_text(path.read_text(encoding="utf-8").replace("word 1", "ward 1"), encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # nor does a kept time hide it
    with pytest.raises(ConfigError, match=r"valid\.jsonl: was edited after the data in .* was prepared from it; run"):
        config.verify(tmp_path / "data")
    config.prepare(tmp_path / "data")
    config.verify(tmp_path / "data")
    assert "ward 1" in config.test_windows(tmp_path / "data", "valid")[1].source_text
    path.unlink()
    with pytest.raises(ConfigError, match=r"valid\{.*: 0 files, must be one"):
        config.local_files()
    shutil.rmtree(tmp_path / "corpus")  # a machine that has the prepared data alone
    with pytest.raises(ConfigError, match="is no folder"):
        config.local_files()


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("after", range(len(DocumentsConfig().files) + 1))
def test_a_killed_preparation_leaves_nothing_that_looks_complete(
    mine: tuple[DocumentsConfig, Path], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was prepared before; the kill comes as each of its files, data.json last, is about to take its place."""
    config, folder = mine
    replaced = os.replace
    moved: list[str] = []

    def replace(source: Any, target: Any) -> None:
        if len(moved) == after:
            raise Killed
        moved.append(Path(target).name)
        replaced(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Killed):
        config.prepare(folder)
    monkeypatch.undo()
    assert not (folder / "data.json").exists() and len(moved) == after
    with pytest.raises(ConfigError, match="the data is not prepared"):
        config.verify(folder)
    (folder / ".train.safetensors.k1ll").write_text("half")  # what a kill -9 leaves
    config.prepare(folder)
    config.verify(folder)
    assert {path.name for path in folder.iterdir()} == {*config.files, "data.json"}


def test_a_corpus_that_changes_under_the_preparation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = documents(corpus(tmp_path / "corpus"))
    write = DocumentsConfig.write

    def edited_meanwhile(self: DocumentsConfig, out: Path) -> dict[str, Any]:
        content = write(self, out)
        with (tmp_path / "corpus/train.jsonl").open("a") as file:
            file.write("\n")
        return content

    monkeypatch.setattr(DocumentsConfig, "write", edited_meanwhile)
    with pytest.raises(ConfigError, match=r"train\.jsonl: changed while the data was prepared"):
        config.prepare(tmp_path / "data")
    assert not (tmp_path / "data/data.json").exists()


def test_a_disk_that_cannot_take_it_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(
            ConfigError, match="(Not a directory|File exists|exists).*; free some space or mend the permissions"
        ) as caught:
            MqarConfig(num_pairs=[2]).prepare(out)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")  # a device that is always full
    with pytest.raises(ConfigError, match="No space left on device; free some space"), disk_errors(tmp_path):
        full.write_text("x" * 10**6)


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        (MqarConfig(num_pairs=[2, 8], test_pairs=[16]), 26),  # BOS, 8 pairs of 2, SEP, 8 queries
        (MqarConfig(num_pairs=[8], layout="seq2seq"), 28),
        (DocumentsConfig(max_tokens=40), 80),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_training_that_no_row_fits_into_is_refused_when_it_is_planned(
    config: DataConfig, needed: int, accumulation: int
) -> None:
    config.check(StreamPlan(1, needed * accumulation, accumulation, 0))
    with pytest.raises(
        ConfigError, match=f"training.tokens_per_step: a batch of {needed - 1} tokens .*takes {needed}; raise it"
    ):
        config.check(StreamPlan(1, needed * accumulation - 1, accumulation, 0))


def test_a_source_says_what_it_lacks() -> None:
    class Empty(DataConfig):
        kind: str = "empty"

    empty = Empty()
    for ask in (
        lambda: empty.write(Path()), lambda: empty.stream(Path(), PLAN), lambda: empty.validation(Path(), PLAN),
        lambda: empty.held_out(Path(), "test", 1), lambda: empty.longest_row,
    ):  # fmt: skip
        with pytest.raises(TypeError, match="Empty: a data source has to define"):
            ask()
    assert empty.local_files() == [] and RowLength(3).total == 3 and RowLength(3, 4).total == 7
