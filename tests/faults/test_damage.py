"""Files that were damaged, cut, lost or replaced: refused by name, or not needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from data import test_base, test_needle, test_needle_text, test_squad, test_synthetic, test_text
from data.test_bible import tiny_bible
from faults import commands
from faults.conftest import Tree

from ripstop.config import ConfigError
from ripstop.data import DATA, registry
from ripstop.data.base import DataConfig
from ripstop.data.mqar import MqarConfig
from ripstop.data.mqar_gap import MqarGapConfig
from ripstop.data.questions import QuestionsConfig
from ripstop.data.vocabulary import VocabularyConfig


def text(folder: Path) -> DataConfig:
    file = folder / "text.txt"
    file.write_text("\n\n".join(test_text.document(n) for n in range(100)), encoding="utf-8")
    return test_text.config(file, source={"path": str(file), "text_document": "paragraph"})


def questions(folder: Path) -> DataConfig:
    numbers = {"train": range(40), "test": range(40, 50)}
    told = {split: {f"A{n}": [test_squad.paragraph(n)] for n in some} for split, some in numbers.items()}
    files = {split: str(test_squad.write(folder / f"{split}.json", articles)) for split, articles in told.items()}
    return QuestionsConfig.parse({"source": files}, "data")


KINDS: dict[str, Callable[[Path], DataConfig]] = {
    "documents": lambda folder: test_base.documents(test_base.corpus(folder / "corpus")),
    "mqar": lambda folder: MqarConfig(n_keys=4, n_values=4, num_pairs=[2], n_test=64),
    "mqar_gap": lambda folder: MqarGapConfig(pairs=MqarConfig(n_keys=4, n_values=4, num_pairs=[2], n_test=64)),
    "needle": lambda folder: test_needle.config(),
    "needle_text": lambda folder: test_needle_text.config(),
    "pointer_chain": lambda folder: test_synthetic.TASKS["chains"],
    "questions": questions,
    "selective_copying": lambda folder: test_synthetic.TASKS["copying"],
    "text": text,
    "vocabulary": lambda folder: VocabularyConfig(),
    "word_problem": lambda folder: test_synthetic.TASKS["s3"],
}


def flipped(path: Path) -> None:
    """One bit of it, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_every_kind_of_data_is_here() -> None:
    assert DATA.names() == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_of_prepared_data_is_found(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each file that the preparation leaves; and it leaves no other."""
    wheel = tiny_bible(tmp_path / "tiny.whl", test_needle_text.verses(), {23: "Isaiah", 24: "Jeremiah"})
    monkeypatch.setattr(registry, "fetch", lambda package: wheel)
    config, data = KINDS[kind](tmp_path), tmp_path / "data"
    config.prepare(data)
    config.verify(data)
    files = sorted(path.name for path in data.iterdir())
    assert files == sorted({*config.files, "data.json"})
    for name in files:
        shutil.copytree(data, tmp_path / "damaged")
        flipped(tmp_path / "damaged" / name)
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            config.verify(tmp_path / "damaged")
        shutil.rmtree(tmp_path / "damaged")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "empty": lambda path: path.write_bytes(b""),
    "zero bytes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "a list": lambda path: path.write_bytes(b"[1, 2]\n"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}
READ = (
    "config.yaml", "reporting.yaml", "train.code", "recall.yaml", "recall.code", "training.json", "model.safetensors",
    "test.safetensors", "data.json",
)  # fmt: skip
EVERYWHERE = ("missing", "a folder", "zero bytes", "cut")


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, damage) for file in READ for damage in DAMAGES if damage in EVERYWHERE or file in ("config.yaml", "training.json")],
)
def test_a_damaged_file_of_a_run_is_named_before_anything_is_measured(file: str, damage: str, done: Tree) -> None:
    path = next(folder / file for folder in (done.here, done.root / done.data) if (folder / file).is_file())
    DAMAGES[damage](path)
    before = done.files()
    sentence = commands.run(done.root, "evaluate", done.run, "--part", "recall").sentence
    assert file in sentence or (file == "train.code" and "another code" in sentence), sentence
    assert done.files() == before


def test_one_bit_of_a_model_is_found(done: Tree) -> None:
    """Of its last number: the file is whole, and its digest is another."""
    path = done.here / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    sentence = commands.run(done.root, "evaluate", done.run, "--part", "recall").sentence
    assert f"{done.run}/model.safetensors: is not the model that training.json describes, or damaged" in sentence


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_are_named_by_file_and_line(damage: str, done: Tree) -> None:
    path = done.here / "parts/recall/records.jsonl"
    DAMAGES[damage](path)
    sentence = commands.run(done.root, "collect", path, "--out", "all.jsonl").sentence
    assert str(path) in sentence and (damage != "cut" or f"{path}:" in sentence)
    assert not (done.root / "all.jsonl").exists()


@pytest.mark.parametrize("file", ["params.yaml", "workflow/scales/smoke.yaml"])
@pytest.mark.parametrize("damage", ["a folder", "a link to nowhere", "missing", "empty", "zero bytes", "no UTF-8"])
def test_parameters_that_are_no_file_are_one_sentence(damage: str, file: str, done: Tree) -> None:
    DAMAGES[damage](done.root / file)
    before = done.files()
    sentence = commands.run(done.root, "plan", "--write").sentence
    assert file in sentence or (file != "params.yaml" and "scale 'smoke' does not exist" in sentence), sentence
    assert done.files() == before
