"""`ripstop wire` on a tiny trained run: what was packed is answered from, and whatever is foreign or damaged is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from models.soft_prompts import questions, soft_prompt

from ripstop import ending
from ripstop.__main__ import app
from ripstop.config import ConfigError
from ripstop.data.question import Question
from ripstop.data.questions import QuestionsConfig
from ripstop.frozen.scoring import generate
from ripstop.runs import Run
from ripstop.training.train import train
from ripstop.wire.file import Wire, load, save
from ripstop.wire.quantize import n_bytes, straight_through
from ripstop.wire_command import Packer, answers, pack_files, unpack_file

TEXT = "Köln liegt am Rhein,\neinem  großen Fluß.\n"


def squad(found: list[Question]) -> str:
    """As SQuAD's files have it."""
    return json.dumps(
        {
            "version": "1.1",
            "data": [
                {
                    "title": f"{q.title} {q.id}",
                    "paragraphs": [
                        {
                            "context": q.document,
                            "qas": [
                                {
                                    "id": q.id,
                                    "question": q.question,
                                    "answers": [{"text": q.answers[0], "answer_start": q.start}],
                                }
                            ],
                        }
                    ],
                }
                for q in found
            ],
        }
    )


def trained(root: Path, seed: int) -> Path:
    """A run of two frozen models after two updates, where the workflow has it, and its data beside."""
    for split, rows in (("train", questions(60)), ("test", questions(4, seed=7))):
        (root / f"{split}.json").write_text(squad(rows))
    data = QuestionsConfig.parse(
        {"source": {"train": str(root / "train.json"), "test": str(root / "test.json")}, "max_words": 32}, "data"
    )
    prepared = root / "results/cpu/data" / data.id
    if not prepared.exists():
        prepared.mkdir(parents=True)
        data.prepare(prepared)
    run = Run.parse(
        {"study": "s", "scale": "cpu", "name": f"seed-{seed}", "seed": seed, "factors": {}, "data": data,
         "model": soft_prompt("pointer", two=True, bits="int6", group=8),
         "training": {"steps": 2, "tokens_per_step": 64, "lr": 1e-3, "objective": {"kind": "answers"}}}, "r"
    )  # fmt: skip
    folder = root / f"results/cpu/s/runs/seed-{seed}"
    folder.mkdir(parents=True)
    for name, text in run.files().items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "train.code").write_text("0123456789abcdef\n")
    train(folder, prepared)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wires")


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    return trained(root, 0)


@pytest.fixture
def wire(run: Path, tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    list(pack_files(run, [tmp_path / "a.txt"]))
    return tmp_path / "a.txt.wire"


def test_a_wire_holds_what_the_run_s_model_makes_of_the_document(run: Path, wire: Path) -> None:
    packer = Packer(run)
    with torch.no_grad():
        z_BMZ = packer.model.wire([TEXT])
    found = load(wire)
    assert torch.equal(found.numbers(), z_BMZ[0])
    assert found.format == packer.config.wire_format() and found.format.bits == "int6"
    assert found.models == {name: lm.identity for name, lm in packer.model.lms.items()}
    assert re.fullmatch(r"soft_prompt sha256:[0-9a-f]{16}", found.compressor)


def test_each_model_answers_from_the_wire_as_it_would_from_the_document_s(run: Path, wire: Path) -> None:
    packer = Packer(run)
    with torch.no_grad():
        z_BMZ = packer.model.wire([TEXT])
    expected = {}
    for name, builder in packer.model.builders.items():
        prompt = builder.soft("Welcher Fluß?", packer.model.soft(z_BMZ, name)[0])
        expected[name] = generate(packer.model.lms[name], builder, [prompt])[0]
    assert dict(answers(run, wire, "Welcher Fluß?")) == expected
    assert list(answers(run, wire, "Welcher Fluß?", "two")) == [("two", expected["two"])]


def test_bits_of_the_user_s_choice_and_a_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(TEXT, encoding="utf-8")
    (tmp_path / "b").write_text("Another one.", encoding="utf-8")
    lines = list(pack_files(run, [tmp_path / "a", tmp_path / "b"], tmp_path / "out", "int4"))
    packer = Packer(run)
    format = packer.config.wire_format("int4")
    n_text = len(" ".join(TEXT.split()).encode())
    assert lines[0].startswith(f"{tmp_path}/out/a.wire: {n_bytes(format)} bytes in int4 for {n_text} bytes of text, a ratio of")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wire", "b.wire"]
    with torch.no_grad():
        z_BMZ = packer.model.wire([TEXT, "Another one."], rounded=False)
    for name, z_MZ in zip("ab", z_BMZ, strict=True):
        # packed one by one, and so in other batches: the same but for a step where a number lies on the border of two codes
        differs = (load(tmp_path / f"out/{name}.wire").numbers() - straight_through(z_MZ, format)).abs() > 1e-3
        assert float(differs.float().mean()) < 0.05


def test_unpack_says_what_it_is_and_writes_its_numbers(wire: Path, tmp_path: Path) -> None:
    lines = list(unpack_file(wire, tmp_path / "new/z.npy"))
    assert lines[0] == f"{wire}: 4 vectors of 16 numbers in int6, {4 * 16 * 6 // 8 + 4 * 2 * 2} bytes"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "packed by",
        "read by one",
        "read by two",
        f"numbers in {tmp_path}/new/z.npy",
    ]
    assert np.array_equal(np.load(tmp_path / "new/z.npy"), load(wire).numbers().numpy())
    assert len(list(unpack_file(wire))) == 4


def test_a_wire_of_another_run_is_refused(root: Path, wire: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.txt\.wire: was packed by another compressor"):
        list(answers(trained(root, 1), wire, "Which river?"))


def test_what_cannot_be_packed_or_asked(run: Path, wire: Path, tmp_path: Path) -> None:
    def refused(said: str, *files: Path, out: Path | None = None, bits: str | None = None, folder: Path = run) -> None:
        with pytest.raises(ConfigError, match=said):
            list(pack_files(folder, files, out, bits))

    text = tmp_path / "a.txt"
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "latin").write_bytes(b"\xe9\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").write_text("x")
    refused("no such format; did you mean 'int4'", text, bits="int44")
    refused("empty: holds no text", text, tmp_path / "empty")
    refused("latin:1: not UTF-8 text", tmp_path / "latin")
    refused("none.txt: no such file", tmp_path / "none.txt")
    refused("two files would be packed to it", text, tmp_path / "other/a.txt", out=tmp_path)
    refused("no such run", text, folder=tmp_path / "none")
    assert not (tmp_path / "other/a.txt.wire").exists()
    with pytest.raises(ConfigError, match="no frozen model of that name; did you mean 'two'"):
        list(answers(run, wire, "Which river?", "twoo"))
    with pytest.raises(ConfigError, match="the question is empty"):
        list(answers(run, wire, " "))
    with pytest.raises(ConfigError, match=r"the question cannot be read: a text holds '.udcff', .*, behind 'Which '; correct"):
        list(answers(run, wire, "Which \udcff"))
    wire.write_bytes(wire.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="is damaged or cut short"):
        list(answers(run, wire, "Which river?"))


def test_runs_that_make_no_wires(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    folder = tmp_path / "r"
    folder.mkdir()
    made, data = Run.load(run), run.parents[2] / "data"

    def refused(said: str, changed: Run, data: Path | None = None) -> None:
        for name, content in changed.files().items():
            (folder / name).write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match=said):
            list(pack_files(folder, [tmp_path / "a.txt"], data=data))

    other = {"kind": "decoder_only", "d_model": 8, "pattern": "A", "mixers": {"A": {"kind": "attention", "n_heads": 1}}}
    refused("its model is of kind decoder_only; name a run of a soft_prompt", made.replace(model=other))
    refused("trains nothing, its wires would be of random weights", made.replace(training=None))
    refused("is not trained; run `python -m ripstop train", made)
    for name in ("model.safetensors", "training.json"):
        shutil.copy(run / name, folder)
    refused("the data is not prepared", made, tmp_path / "data")
    refused("and the run was trained on", made.replace(data=made.data.replace(max_words=31)), data / made.data.id)
    edited = made.replace(model=made.model.replace(feature_layer=0))
    refused("was trained with another configuration than there is now", edited, data / made.data.id)
    shutil.copytree(data / made.data.id, tmp_path / "copy")
    with (tmp_path / "copy/train.jsonl").open("a") as file:
        file.write("\n")
    refused("train.jsonl: is not the file that data.json describes", made, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"")
    refused("is not the model that training.json describes, or damaged", made, data / made.data.id)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["training.objective={kind: cross_entropy}"],
            "training.objective: cross_entropy trains no soft_prompt; use kind: answers",
        ),
        (
            ["model.adapter.output=key_values", "training.objective.reconstruction=1"],
            "reconstructs soft embeddings, and model.adapter.output is key_values; set its pretrain and reconstruction to 0",
        ),
    ],
)
def test_what_cannot_be_trained_leaves_the_results_of_before(run: Path, overrides: list[str], said: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.iterdir() if path.suffix != ".lock"}
    with pytest.raises(ConfigError, match=said):
        train(run, run.parents[2] / "data" / Run.load(run).data.id, overrides)
    assert {path: path.stat().st_mtime_ns for path in run.iterdir() if path.suffix != ".lock"} == before


def test_a_text_too_long_for_the_model_that_reads_it(run: Path, tmp_path: Path) -> None:
    """None of the files is packed then."""
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "long.txt").write_text("word " * 1200)
    with pytest.raises(ConfigError, match=r"long\.txt: takes 6001 tokens, and one, which reads it, has 4096 places; cut it"):
        list(pack_files(run, [tmp_path / "a.txt", tmp_path / "long.txt"]))
    assert not (tmp_path / "a.txt.wire").exists()


def test_a_wire_of_another_shape_is_refused(run: Path, wire: Path) -> None:
    found = load(wire)
    form = found.format.replace(n_vectors=2)
    save(Wire.of(found.numbers()[:2], form, found.compressor, found.models), wire)
    with pytest.raises(
        ConfigError, match=r"a.txt.wire: is of the shape \(M, d_z\) = \(2, 16\), and the run's wires are \(4, 16\)"
    ):
        list(answers(run, wire, "Which river?"))


def test_a_wire_is_not_written_over_by_its_numbers(wire: Path) -> None:
    before = wire.read_bytes()
    with pytest.raises(ConfigError, match="--out .*a.txt.wire: is the wire itself; name another file"):
        list(unpack_file(wire, wire))
    assert wire.read_bytes() == before


def test_the_commands(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ripstop", "wire", *arguments])
        status = ending.run(app)
        said = capsys.readouterr()
        return status, said.out, said.err

    status, out, _ = call("pack", str(run), "a.txt", "--bits", "fp16")
    assert status == 0 and out.startswith("a.txt.wire: 128 bytes in fp16 for ")
    status, out, _ = call("answer", str(run), "a.txt.wire", "Which river?")
    assert status == 0 and out == "".join(
        f"{name}: {text}\n" for name, text in answers(run, Path("a.txt.wire"), "Which river?")
    )
    status, out, _ = call("unpack", "a.txt.wire", "--out", "z.npy")
    assert status == 0 and out.endswith("numbers in z.npy\n") and Path("z.npy").is_file()
    assert call("unpack", "a.txt") == (2, "", "error: a.txt: is no wire; `python -m ripstop wire pack` makes one\n")
