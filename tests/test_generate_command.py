"""The command `generate`: text in, text out as it is made, from a trained run or its newest checkpoint, and every refusal."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ripstop import __main__ as cli
from ripstop import choices, provenance
from ripstop.batch import TokenBatch
from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, EOS, BpeConfig, BytesConfig
from ripstop.generate_command import Samples, pieces
from ripstop.models.generate import GenerationConfig
from ripstop.models.weights import load_weights
from ripstop.runs import Run
from ripstop.training.checkpoint import Checkpoints
from ripstop.training.distributed import checkpoint_folder
from ripstop.training.distributed.ranks import ALONE
from ripstop.training.results import write_results

MODEL = {
    "kind": "decoder_only",
    "d_model": 16,
    "pattern": "SL",
    "mixers": {
        "S": {"kind": "sliding_window", "n_heads": 2, "window_size": 5, "sink_size": 1},
        "L": {"kind": "mla", "n_heads": 2, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4},
    },
    "embedding_std": 0.5,
}
GREEDY = GenerationConfig(max_new_tokens=20)
SAMPLED = GREEDY.replace(temperature=1.0)


def write_run(folder: Path, **values: Any) -> Run:
    told = {"study": "s", "scale": "cpu", "name": "r", "seed": 0, "factors": {}}
    run = Run.parse(told | {"training": {"steps": 1, "tokens_per_step": 64, "lr": 1e-3}} | values, "r")
    folder.mkdir(parents=True)
    for name, text in run.files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its weights as they were drawn, where the workflow has them, and its data beside."""
    root = tmp_path_factory.mktemp("generate")
    texts = [f"{n} says " + "abc äöü " * (n % 7) for n in range(80)]
    (root / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = {"path": str(root / "text.jsonl")}
    data = TextConfig.parse({"source": source, "tokenizer": {"kind": "bytes"}, "block_size": 32, "held_out_share": 0.1}, "d")
    prepared = root / "results/cpu/data" / data.id
    prepared.mkdir(parents=True)
    data.prepare(prepared)
    folder = root / "results/cpu/s/runs/r"
    made = write_run(folder, data=data, model=MODEL)
    identity = {
        "configuration": provenance.digest(choices.resolved(folder)),
        "code": "of whenever",
        "data": provenance.digest((prepared / "data.json").read_bytes()),
    }
    torch.manual_seed(1)
    write_results(folder, made.model.build(data.info(prepared)), {"outcome": "finished", "identity": identity}, {})
    return folder


def model_of(run: Path) -> Any:
    found = Run.load(run)
    model = found.model.build(found.data.info(found.data_beside(run)))
    load_weights(model, run / "model.safetensors")
    return model


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ripstop", "generate", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


@pytest.mark.parametrize("prompt", ["4 says", "ä", ""])
def test_greedy_text_is_that_of_repeated_forwards(prompt: str, run: Path) -> None:
    """Past the window of 5."""
    model, tokenizer = model_of(run), BytesConfig().train(())
    ids = [BOS, *tokenizer.encode(prompt)]
    begin = len(ids)
    while len(ids) < begin + 20:
        x_BT = torch.tensor([ids])
        with torch.no_grad():
            token = int(model(TokenBatch(x_BT, x_BT))[0, -1].argmax())
        if token == EOS:
            break
        ids.append(token)
    wanted = tokenizer.decode(ids).removeprefix(prompt)
    assert "".join(Samples(run, prompt, GREEDY).sample(0)) == wanted and len(ids) > begin


def test_a_sample_depends_on_seed_and_number_alone(run: Path) -> None:
    ten, eleven = (["".join(Samples(run, "1", SAMPLED, seed).sample(n)) for n in (0, 1, 2)] for seed in (10, 11))
    assert ten[1:] == eleven[:2] and len({*ten, *eleven}) == 4


TEXT = "Größe 漢字 🙂 end, \u200b and\ttabs\nlines"


@pytest.mark.parametrize("tokenizer", [BytesConfig().train(()), BpeConfig(vocab_size=300).train([TEXT * 3, "漢字 abc"] * 3)])
def test_pieces_are_whole_characters_and_together_the_text(tokenizer: Any) -> None:
    for text in (TEXT, "ab", " leading", "🙂🙂"):
        ids = tokenizer.encode(text)
        found = list(pieces(tokenizer, ids))
        assert "".join(found) == f" {text}" and not any("\ufffd" in piece for piece in found)
        assert len(found) > len(text) / 4


def test_what_is_no_character_is_shown_with_the_next_one() -> None:
    tokenizer = BytesConfig().train(())
    smile = tokenizer.encode("🙂")[1:]
    broken = [*smile[:3], *tokenizer.encode("ab")[1:], *smile[1:2] * 3, *smile, smile[0]]
    found = list(pieces(tokenizer, broken))
    assert found == ["\ufffda", "b", "\ufffd\ufffd\ufffd🙂", "\ufffd"]
    assert "".join(found) == tokenizer.decode([*tokenizer.encode("x"), *broken])[1:]


def test_the_command_prints_prompt_and_samples(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert call(monkeypatch, str(run), "--prompt", "4 says", "--tokens", "20", "--temperature", "0") == 0
    assert capsys.readouterr().out == "4 says" + "".join(Samples(run, "4 says", GREEDY).sample(0)) + "\n"
    more = ["--tokens", "20", "--samples", "2", "--seed", "5", "--top-k", "9", "--top-p", "0.9"]
    assert call(monkeypatch, str(run), *more) == 0
    samples = Samples(run, "", SAMPLED.replace(top_k=9, top_p=0.9), 5)
    first, second = ("".join(samples.sample(n)) for n in (0, 1))
    assert capsys.readouterr().out == f"--- 1 of 2\n{first}\n--- 2 of 2\n{second}\n"


def test_the_prompt_from_a_file_and_from_standard_input(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("two\nlines ä\n", encoding="utf-8")
    said = []
    for file in (str(tmp_path / "p.txt"), "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("two\nlines ä\n".encode())))
        assert call(monkeypatch, str(run), "--file", file, "--tokens", "4", "--temperature", "0") == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("two\nlines ä")


def test_a_training_that_has_not_ended_gives_its_newest_checkpoint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    going = tmp_path / "r"
    shutil.copytree(run, going)
    data = str(Run.load(run).data_beside(run))
    model = model_of(run)
    (going / "model.safetensors").unlink()
    arguments = [str(going), "--prompt", "4", "--tokens", "20", "--temperature", "0", "--data", data]
    assert call(monkeypatch, *arguments) == 2
    assert "is not trained, and has no checkpoint; run `python -m ripstop train" in capsys.readouterr().err
    checkpoints = Checkpoints(going / "checkpoints", {"configuration": "c"}, 2)
    with torch.no_grad():
        trained = {name: tensor.clone() for name, tensor in model.trained_state().items()}
        checkpoints.save(9, {"model": {name: torch.zeros_like(tensor) for name, tensor in trained.items()}})
        checkpoints.save(10, {"model": trained})
    assert call(monkeypatch, *arguments) == 0
    said = capsys.readouterr()
    assert said.out == "4" + "".join(Samples(run, "4", GREEDY).sample(0)) + "\n"
    assert f"{going}: its training has not ended; this is the model of step 10" in said.err
    newest = max((going / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:100])
    assert call(monkeypatch, *arguments) == 0
    said = capsys.readouterr()
    assert f"{newest}: damaged, its content does not match" in said.err and "this is the model of step 9" in said.err
    assert said.out == "4\n"  # of zeros: PAD, which is no text
    uniform = Samples(going, "4", SAMPLED.replace(max_new_tokens=4000), data=Path(data))  # over 259 tokens, one of them EOS
    assert len("".join(uniform.sample(0))) < 2000
    whole = going / "checkpoints/step-00000011-0123456789abcdef"  # as several processes leave it
    digest = checkpoint_folder.write(whole, {"identity": {}, "settings": {}, "step": 11, "state": {"model": trained}}, ALONE)
    whole.rename(whole.with_name(f"step-00000011-{digest[:16]}"))
    assert call(monkeypatch, *arguments) == 0
    said = capsys.readouterr()
    assert "model of step 11" in said.err and said.out == "4" + "".join(Samples(run, "4", GREEDY).sample(0)) + "\n"


def test_refusals(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    recall = tmp_path / "recall"
    data = {"kind": "mqar", "n_keys": 8, "n_values": 8, "num_pairs": [2], "test_pairs": [2]}
    write_run(recall, data=data, model=MODEL)
    damaged = tmp_path / "a/b/c/runs/r"
    shutil.copytree(run, damaged)
    shutil.copytree(run.parents[2] / "data", damaged.parents[2] / "data")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    for arguments, sentence in (
        (["none"], "none: no such run; name its folder, results/<scale>/<study>/runs/<run>"),
        ([str(recall)], f"{recall}: its data is of kind mqar, which has no text; name a run on data of kind text"),
        ([str(damaged)], "is not the model that training.json describes, or damaged"),
        ([str(run), "--prompt", "a", "--file", "b"], "--prompt and --file b both give the prompt; give one of them"),
        ([str(run), "--file", "none.txt"], "none.txt: no such file"),
        ([str(run), "--top-p", "0"], "generate: top_p: input should be greater than 0"),
        ([str(run), "--prompt", "caf\udce9"], r"--prompt holds '\udce9' at character 3, which is no UTF-8 text; correct it"),
        ([str(run), "--temperature", "1e-300"], "temperature: 1e-300 is too near 0; set it to 0, which takes the most likely"),
        ([str(run), "--temperature", "0", "--top-k", "3"], "set a temperature above 0, or remove them"),
    ):
        assert call(monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.startswith("error: ") and said.count("\n") == 1


def test_a_tokenizer_that_was_exchanged_is_refused(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(Run.load(run).data_beside(run), data)
    BpeConfig(vocab_size=300).train([TEXT]).save(data / "tokenizer.json")
    with pytest.raises(ConfigError, match="tokenizer.json: is not the file that data.json describes"):
        Samples(run, "a", GREEDY, data=data)
