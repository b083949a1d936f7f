"""Translating a text file: one line out for every line in, each after what stands before it, and every refusal."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models.architectures import build, encoder_decoder

from ripstop import choices, provenance
from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.data.tokenizer import BOS, EOS, BpeConfig, BytesConfig
from ripstop.models.generate import GenerationConfig, generate
from ripstop.runs import Run
from ripstop.training.results import write_results
from ripstop.translate import LineByLine, read_lines, translated

ROOT = Path(__file__).parents[1]
WINDOW = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its weights as they were drawn, where the workflow has them, and its data beside."""
    root = tmp_path_factory.mktemp("translate")
    for split in ("train", "valid", "test"):
        row = {"document": split, "en": [f"{split} a", "b"], "de": ["A", f"{split} B"]}
        (root / f"{split}.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"en": ["c", "d"]}) + "\n")
    data = DocumentsConfig.parse({"source": {"path": str(root)}, "tokenizer": {"kind": "bytes"}, "max_tokens": WINDOW}, "d")
    prepared = root / "results/cpu/data" / data.id
    prepared.mkdir(parents=True)
    data.prepare(prepared)
    training = {"steps": 1, "tokens_per_step": 64, "lr": 1e-3}
    made = Run.parse(
        {"study": "s", "scale": "cpu", "name": "r", "seed": 0, "factors": {}, "data": data, "model": encoder_decoder("hybrid"),
         "training": training}, "r"
    )  # fmt: skip
    folder = root / "results/cpu/s/runs/r"
    folder.mkdir(parents=True)
    for name, text in made.files().items():
        (folder / name).write_text(text, encoding="utf-8")
    torch.manual_seed(1)
    identity = {
        "configuration": provenance.digest(choices.resolved(folder)),
        "code": "of whenever",
        "data": provenance.digest((prepared / "data.json").read_bytes()),
    }
    write_results(folder, made.model.build(data.info(prepared)), {"outcome": "finished", "identity": identity}, {})
    return folder


TEXTS = [
    "one\ntwo\n\nthree\n",
    "\n\none\n\n\n\ntwo",
    "no newline at the end",
    "windows\r\nlines\r\n\r\nend\r\n",
    "a\u2028b\x0bc\x0cd\x85e\x1cf\rg\n  \t \nh\n",
    "\ufeffmark\n",
    "„Größe“ 漢字\n🙂\n",
    "x\n" * 3,
]


@pytest.mark.parametrize(("text", "beam"), [*((text, 1) for text in TEXTS), (TEXTS[0], 2)])
def test_lines_and_blank_lines_stay(text: str, beam: int, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode())
    found = list(translated(run, str(path), beam))
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    assert [bool(line) for line in found] == [bool(line.strip()) for line in lines]
    assert all(" ".join(line.split()) == line for line in found)


def test_a_line_is_written_after_its_context_on_both_sides() -> None:
    """As by the window put together by hand; the window's end is the end of what is written."""
    tokenizer = BytesConfig().train([])
    model = build(encoder_decoder("hybrid"), vocab_size=len(tokenizer)).eval()
    translator, of = LineByLine(model, tokenizer, WINDOW), tokenizer.encode
    config = GenerationConfig(max_new_tokens=WINDOW - 1 - 7, eos=EOS)
    prompt, source = [BOS, *of("xy"), *of("uvw")], [*of("ab"), *of("c"), *of("de"), EOS]
    written = translator.write(of("de"), [(of("ab"), of("xy")), (of("c"), of("uvw"))])
    assert written == generate(model, [prompt], config, sources=[source])[0]
    assert written != translator.write(of("de"), [])[: len(written)]
    config = GenerationConfig(max_new_tokens=WINDOW - 1, eos=EOS, beam_size=4)
    (best,) = generate(model, [[BOS]], config, sources=[[*of("de"), EOS]])
    assert LineByLine(model, tokenizer, WINDOW, 4).write(of("de"), []) == best != translator.write(of("de"), [])


class Recorder(LineByLine):
    """Writes one letter for every line, and keeps what it was given before it."""

    def write(self, ids: list[int], context: Any) -> list[int]:
        self.contexts = [*getattr(self, "contexts", []), [(self.text(a), self.text(b)) for a, b in context]]
        return self.tokenizer.encode("tuvwxyz"[len(self.contexts) - 1])


def test_the_context_is_the_document_s_own_lines_and_their_translations() -> None:
    tokenizer = BytesConfig().train([])
    recorder = Recorder(torch.nn.Linear(1, 1), tokenizer, WINDOW)  # type: ignore[arg-type]
    lines = ["a", "b", "c", "", "d", "e"]
    assert list(recorder.lines([tokenizer.encode(line) for line in lines])) == ["t", "u", "v", "", "w", "x"]
    assert recorder.contexts == [[], [("a", "t")], [("a", "t"), ("b", "u")], [], [("d", "w")]]


def test_what_fits_into_the_window() -> None:
    """Beside a line of 4 tokens and room for 6 of its translation, of 24 with EOS there are 19 and 17 for what is before."""
    translator = LineByLine(torch.nn.Linear(1, 1), BytesConfig().train([]), WINDOW)  # type: ignore[arg-type]
    line, pairs = [9] * 4, [([1] * 3, [2] * 3), ([3] * 10, [4] * 10), ([5] * 7, [6] * 7)]
    assert translator.fitting(line, pairs) == pairs[1:]
    assert translator.fitting(line, [([1], [2]), *pairs[1:2], ([5] * 8, [6] * 8)]) == [([5] * 8, [6] * 8)]
    assert translator.fitting([9] * 20, pairs) == [] and translator.fitting(line, []) == []


class Silent(LineByLine):
    """A model that ends at once."""

    def write(self, ids: list[int], context: Any) -> list[int]:
        self.asked = [*getattr(self, "asked", []), len(context)]
        return []


def test_a_line_that_the_model_leaves_out_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again without a context first."""
    tokenizer = BytesConfig().train([])
    silent = Silent(torch.nn.Linear(1, 1), tokenizer, WINDOW)  # type: ignore[arg-type]
    assert list(silent.lines([tokenizer.encode("a"), tokenizer.encode("b")])) == ["a", "b"]
    assert silent.asked == [0, 0, 1, 0]
    assert [record.getMessage()[:6] for record in caplog.records] == ["line 1", "line 2"]


def refusal(*arguments: Any) -> str:
    with pytest.raises(ConfigError) as error:
        translated(*arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ": holds no text; give it a line"),
        (b"\n \n", ": holds no text; give it a line"),
        (b"fine\nL\xe4nge\n", ":2: not UTF-8 text; save the file as UTF-8"),
        ("eins\n".encode("utf-16"), ":1: not UTF-8 text"),
        ("eins\nzwei\n".encode("utf-16-le"), ":1: holds a zero byte, which no text has; save the file as UTF-8"),
        (b"eins\nzw\0ei\n", ":2: holds a zero byte"),
        (b"fine\n\n" + b"x" * 24 + b"\n", ":3: a line of 25 tokens does not fit into the model's window of 24 with its end;"),
        (b"x" * 23, ":1: a line of 24 tokens does not fit"),
    ],
)
def test_a_text_that_cannot_be_translated(content: bytes, said: str, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    assert refusal(run, str(path)).startswith(f"{path}{said}")


def test_the_longest_line_that_fits(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("x" * 22)
    assert len(list(translated(run, str(path)))) == 1


def test_runs_that_do_not_translate(run: Path, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("a\n")
    assert refusal(tmp_path / "none", str(text)) == (
        f"{tmp_path}/none: no such run; name its folder, results/<scale>/<study>/runs/<run>"
    )
    assert "config.yaml: no such file; `python -m ripstop plan --write`" in refusal(tmp_path, str(text))
    assert refusal(run, str(tmp_path / "no.txt")) == f"{tmp_path}/no.txt: no such file"
    assert refusal(run, str(tmp_path)) == f"{tmp_path}: this is a folder, not a file; name one of its files"
    assert refusal(run, "") == "FILE is empty; name a text file, or - for standard input"
    made = Run.load(run)

    def write(**changes: Any) -> Path:
        for name, content in made.replace(**changes).files().items():
            (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path

    assert "is not trained; run `python -m ripstop train" in refusal(write(), str(text))
    assert "is not trained" in refusal(write(training=None), str(text))
    assert "its model of kind encoder_decoder; name a run of hybrid_ratio" in refusal(
        write(model=encoder_decoder("blind")), str(text)
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is not trained" in refusal(write(), str(text))  # stopped between the model and its report
    (tmp_path / "training.json").write_text("{}")
    assert "data.json: no such file; the data is not prepared" in refusal(write(), str(text), 1, tmp_path / "data")
    folder = run.parents[2] / "data" / made.data.id
    other = made.data.replace(max_tokens=99)
    assert f"holds the data {made.data.id}, and the run was trained on {other.id}" in refusal(
        write(data=other), str(text), 1, folder
    )


def copied(run: Path, root: Path) -> tuple[Path, Path]:
    """The run and its data, to be damaged."""
    results = root / "results"
    shutil.copytree(run.parents[2], results)
    (data,) = (results / "data").iterdir()
    return results / "s/runs/r", data


def test_weights_that_the_training_did_not_leave(run: Path, tmp_path: Path) -> None:
    """One bit is enough, and so are those of another training."""
    text = tmp_path / "t.txt"
    text.write_text("a\n")
    folder, _ = copied(run, tmp_path)
    assert len(list(translated(folder, str(text)))) == 1
    weights, report = folder / "model.safetensors", folder / "training.json"
    whole, told = weights.read_bytes(), json.loads(report.read_text())
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{weights}: is not the model that training.json describes, or damaged; delete both" in refusal(folder, str(text))
    weights.write_bytes(whole)
    report.write_text(json.dumps(told | {"outcome": "diverged"}))
    assert "says that the training diverged, so that nothing was learnt; name another run" in refusal(folder, str(text))
    for damaged in ("[]", "{", "{}", json.dumps(told | {"identity": {}}), json.dumps(told | {"identity": "x"})):
        report.write_text(damaged)
        assert f"{report}: not a report of a training; run `python -m ripstop train" in refusal(folder, str(text))


def test_settings_or_data_that_it_was_not_trained_with(run: Path, tmp_path: Path) -> None:
    """Shapes fit and words do not: heads of another number, a corpus that was prepared again after an edit."""
    text = tmp_path / "t.txt"
    text.write_text("a\n")
    folder, data = copied(run, tmp_path)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"))
    assert "model.safetensors: was trained with another configuration than there is now; run" in refusal(folder, str(text))
    (folder / "config.yaml").write_text(config)
    description = (data / "data.json").read_text()
    (data / "data.json").write_text(description.replace('"pieces": 4', '"pieces": 5'))
    assert "was trained with another data than there is now" in refusal(folder, str(text))


def test_a_tokenizer_that_the_data_was_not_prepared_with(run: Path, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("a\n")
    folder, data = copied(run, tmp_path)
    BpeConfig(vocab_size=300).train(["some other text, some other text"]).save(data / "tokenizer.json")
    assert refusal(folder, str(text)) == (
        f"{data}/tokenizer.json: is not the file that data.json describes, it was damaged or edited; "
        f"run `python -m ripstop prepare {data}`"
    )
    (data / "tokenizer.json").write_text("{")
    assert "tokenizer.json: cannot be read" in refusal(folder, str(text))
    (data / "tokenizer.json").unlink()
    assert "tokenizer.json: no such file" in refusal(folder, str(text))


def test_standard_input(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n\nb\n")))
    assert read_lines("-") == ["a", "", "b"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n\xff\n")))
    assert refusal(run, "-") == "standard input:2: not UTF-8 text; save the file as UTF-8"
    monkeypatch.setattr(sys, "stdin", None)  # as `<&-` leaves it
    assert refusal(run, "-") == "standard input: is closed; hand a text to it, or name a file"


def test_the_command_writes_each_line_when_it_is_made(run: Path) -> None:
    """From a run named by a path of its own, text from a pipe, whatever the locale."""
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
    command = [sys.executable, "-m", "ripstop", "translate", "--run", "runs/r", "-"]
    done = subprocess.run(command, cwd=run.parents[1], env=there, input="Größe\n\nb\n".encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    assert [bool(line) for line in lines] == [True, False, True, False]
