"""Free runs: resolved as the grid resolves its own, refused before anything is written, trained and taken up by one command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ripstop import __main__ as cli
from ripstop import free_run, params, studies, yaml_file
from ripstop.accepted import Accepted
from ripstop.config import ConfigError
from ripstop.data.documents import DocumentsConfig
from ripstop.dry_run import described, vocabulary
from ripstop.free_run import FreeRun, resolve
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.presets import PRESETS
from ripstop.plan import Job, Plan
from ripstop.prune import strangers
from ripstop.records import read_records
from ripstop.stage_files import files_of_data, files_of_run
from ripstop.studies.base import runs

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "params.yaml"
MODEL = [
    "model.d_model=16",
    "model.pattern=SL",
    "model.mixers.S={kind: sliding_window, n_heads: 2, window_size: 8, sink_size: 1}",
    "model.mixers.L={kind: mla, n_heads: 2, kv_lora_rank: 8, qk_nope_head_dim: 4, qk_rope_head_dim: 4, v_head_dim: 4}",
    "model.mlp=null",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    texts = [f"{n} says " + "abc " * (n % 17) for n in range(120)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def of_text(text: Path, *more: str) -> list[str]:
    data = f"data={{kind: text, source: {{path: {text}}}, tokenizer: {{kind: bytes}}, held_out_share: 0.1}}"
    return [data, "data.block_size=32", *more]


def tiny(text: Path, *more: str) -> list[str]:
    """Overrides that make of preset small a run of a second."""
    training = ["training.steps=4", "training.batch_size=6", "training.validate_every=2", "training.compile=false"]
    training += ["training.precision=fp32", "evaluation.bits={kind: bits_per_byte, tokens_per_batch: 256}"]
    return [*of_text(text), *MODEL, *training, *more]


def command(text: Path, *more: str, name: str = "r") -> list[str]:
    told = ["train", "--study", "mqar_cliff", "--preset", "swa_mla_small", "--params", str(PARAMS), "--name", name]
    return [*told, "--set", *tiny(text), *more]


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Exit status of `python -m ripstop ARGUMENTS` in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["ripstop", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("study", "arm", "scale"), [("mqar_cliff", "mamba2_attention", "cpu"), ("residual_init", None, "h100")]
)
def test_an_arm_as_it_is_has_the_files_of_the_grid(study: str, arm: str | None, scale: str, tmp_path: Path) -> None:
    """All files of the stages, digests of code among them, but for the name of its choice."""
    free = resolve(study, arm=arm, params=PARAMS, scale=scale, out=tmp_path)
    given = params.load(PARAMS, scale=scale)
    of_grid = [run for run in runs(studies.load(study), given.study(study, scale), scale, "p") if not run.settings]
    (grid, *_) = [run for run in of_grid if arm is None or run.factors["architecture"] == arm]
    assert free.run == grid.replace(choice="") and free.run.name == grid.name
    accepted = Accepted.read()
    wanted = files_of_run(study, grid.replace(choice=""), accepted)
    wanted |= files_of_data(f"data/{grid.data.id}", grid.data, accepted)
    assert free.files == wanted and free.folder == tmp_path / study / "runs" / grid.name
    assert free.run.data_beside(free.folder) == free.data.absolute()
    assert ["choose settings by held-out loss" in note for note in free.notes] == [True]
    assert tree(tmp_path) == {}


def test_presets_by_their_short_names() -> None:
    assert free_run.preset_of("swa_mla", "base") == free_run.preset_of("mqar_cliff", "swa_mla_base") == "swa_mla_base"
    assert free_run.preset_of("swa_mla", "translator_base") == "translator_base"
    with pytest.raises(ConfigError, match="--preset bsae: there is no such preset; did you mean 'base'?"):
        free_run.preset_of("swa_mla", "bsae")
    with pytest.raises(ConfigError, match="--preset base: there is no such preset"):
        free_run.preset_of("mqar_cliff", "base")


def test_a_preset_takes_the_place_of_the_model(text: Path) -> None:
    overrides = of_text(text, "training.batch_size=8", "data.block_size=64", "seed=3", "training.lr=0.5")
    free = resolve("mqar_cliff", preset="swa_mla_xl", params=PARAMS, overrides=overrides)
    run, training = free.run, free.run.training
    assert run.model == DecoderOnlyConfig.parse({"preset": "swa_mla_xl"}, "m") and run.factors == {"preset": "swa_mla_xl"}
    assert training is not None and (training.tokens_per_step, training.lr, training.steps) == (8 * 64, 0.5, 600)
    assert free.folder == Path("results/free/mqar_cliff/runs/preset-swa_mla_xl_seed-3")
    assert free.data == Path("results/free/data") / run.data.id
    assert set(run.evaluation) == {"learning_curve", "state_size"}  # and recall, which no text has, is left out
    assert [note.split(":")[0] for note in free.notes[:1]] == ["evaluation.recall is left out"]


def test_the_rows_of_an_update_are_told_before_and_behind_the_length_of_a_row(text: Path) -> None:
    for overrides in (["training.batch_size=5", "data.block_size=40"], ["data.block_size=40", "training.batch_size=5"]):
        training = resolve("mqar_cliff", params=PARAMS, overrides=of_text(text, *overrides)).run.training
        assert training is not None and training.tokens_per_step == 200


MISTAKES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "study": ([], {"study": "mqar_clif"}, "study 'mqar_clif' does not exist; did you mean 'mqar_cliff'?"),
    "scale": ([], {"scale": "smok"}, "scale 'smok' does not exist; did you mean 'smoke'?"),
    "arm": ([], {"arm": "mamba"}, "--arm mamba: {params}: studies.mqar_cliff has no such arm; did you mean 'mamba3'?"),
    "several arms": ([], {"study": "d_state_scaling", "arm": "16"}, "--arm 16: several arms of {params}: studies.d_state_"),
    "nothing to train": ([], {"study": "decode_cost"}, "is measured as it is built, so there is nothing to train"),
    "a name that is a path": ([], {"name": "../x"}, "--name ../x: is no name of a folder"),
    "a key": (["training.stesp=3"], {}, "free run of mqar_cliff: training.stesp: unknown key; did you mean 'steps'?"),
    "a key of nothing": (["trainign.steps=3"], {}, "has no trainign; did you mean 'training'?"),
    "no override": (["training.steps"], {}, "--set training.steps: write it as key=value"),
    "what an option says": (["name=x"], {}, "--set name=x: name is not set, --name says it; remove it"),
    "a preset by a key": (["model.preset=recall"], {}, "model.preset is not set, --preset says it; remove it"),
    "parts that are none": (["evaluation=3"], {}, "--set evaluation: needs a mapping of parts by their names (got 3)"),
    "a choice": (["choice=x"], {}, "--set choice=x: choice is not set, a free run has its own; remove it"),
    "rows that have no length": (
        ["training.batch_size=3"],
        {},
        "data of kind mqar has no rows of one length; set training.tok",
    ),
    "rows and tokens": (["training.batch_size=3", "training.tokens_per_step=9"], {}, "training.tokens_per_step is set too"),
    "no rows": (["training.batch_size=0"], {}, "needs a whole number of rows, 1 or more (got 0)"),
    "rows as text": (["training.batch_size=many"], {}, "needs a whole number of rows, 1 or more (got 'many')"),
    "too short an update": (["training.tokens_per_step=9"], {}, "a batch of 9 tokens does not hold one example"),
    "a model that does not fit": ([], {"preset": "recall_from_source"}, "data: has no source, and model encoder_decoder reads"),
    "no data there": ([], {"data": Path("nowhere")}, "nowhere/data.json: no such file; the data is not prepared"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides, settings, sentence = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        resolve(**{"study": "mqar_cliff", "params": PARAMS, "overrides": overrides} | settings)
    assert sentence.format(params=PARAMS) in str(error.value)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "name the folder of a run, or by --study the study of a free run, and one of the two"),
        (["train", "r", "--study", "mqar_cliff"], "and one of the two"),
        (["train", "r", "--preset", "base"], "train r: --preset is of a free run, which --study begins; remove it"),
        (["train", "r", "--dry-run"], "train r: --dry-run is of a free run"),
        (
            ["train", "--study", "mqar_cliff", "--params", str(PARAMS), "--set", "seed=1", "compute.device=cuda"],
            "no CUDA device",
        ),
    ],
)
def test_mistakes_of_the_command(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("error: ") and said.count("\n") == 1
    assert tree(tmp_path) == {}


def test_a_free_run_from_its_beginning_to_its_text(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, said to have ended, refused with other settings, evaluated, continued; and nobody's of the grid."""
    assert call(monkeypatch, tmp_path, *command(text)) == 0
    folder = tmp_path / "results/free/mqar_cliff/runs/r"
    report = json.loads((folder / "training.json").read_text())
    assert (report["outcome"], report["study"], report["run"]) == ("finished", "mqar_cliff", "r")
    config = yaml_file.mapping(folder / "config.yaml")
    assert config["training"]["tokens_per_step"] == 6 * 32 and config["model"]["pattern"] == "SL"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "reporting.yaml", "train.code", "metrics.jsonl", "env.json", "training.json",
        "model.safetensors",
        *(f"{part}.{of}" for part in ("bits", "learning_curve", "state_size") for of in ("yaml", "code"))}  # fmt: skip
    capsys.readouterr()
    before = tree(tmp_path)
    assert call(monkeypatch, tmp_path, *command(text)) == 0
    assert "its training has ended; there is nothing left to do" in capsys.readouterr().out
    assert call(monkeypatch, tmp_path, *command(text, "training.lr=0.5", "seed=7")) == 2
    said = capsys.readouterr().err
    assert (
        "holds a run with other settings (seed is 0, and here 7; training.lr is 0.01, and here 0.5); give this one an" in said
    )
    assert "python -m ripstop train results/free/mqar_cliff/runs/r --data results/free/data/text-" in said
    assert call(monkeypatch, tmp_path, *command(text, "seed=7")) == 2
    assert "holds a run with other settings (seed is 0, and here 7); give" in capsys.readouterr().err
    assert tree(tmp_path) == before

    assert call(monkeypatch, tmp_path, "evaluate", str(folder), "--part", "bits") == 0
    found = {record.metric: record for record in read_records(folder / "parts/bits/records.jsonl")}
    assert 0 < found["bits_per_byte"].value < 9 and found["bits_per_byte"].factors == {"preset": "swa_mla_small"}
    capsys.readouterr()
    assert call(monkeypatch, tmp_path, "generate", str(folder), "--prompt", "7 says", "--tokens", "5", "--samples", "2") == 0
    assert capsys.readouterr().out.startswith("--- 1 of 2\n7 says")

    grid = Plan("free", {"mqar_cliff": {}}, {})
    assert {path.name for path in strangers(grid, tmp_path)} == {"r", config_id(folder)}  # as a scale they would be
    for scale in params.load(PARAMS).scales:
        assert strangers(Plan(scale, dict.fromkeys(studies.names(), dict[str, Job]()), {}), tmp_path) == []


def config_id(folder: Path) -> str:
    (data,) = (folder / "../../../data").resolve().iterdir()
    return data.name


def test_other_code_is_refused_where_a_training_has_begun(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    free = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(text), name="r")
    assert free_run.make_ready(free) and free.is_ready
    code = free.folder / "train.code"
    code.write_text("0123456789abcdef\n")
    assert not free.is_ready
    free_run.make_ready(free)
    assert free.is_ready  # nothing was trained with the other code
    code.write_text("0123456789abcdef\n")
    (free.folder / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match="its training was begun by other code than there is now; give this one another --na"):
        free_run.make_ready(free)
    assert code.read_text() == "0123456789abcdef\n"


def test_prepared_data_is_taken_as_it_is(text: Path, tmp_path: Path) -> None:
    first = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(text), name="a", out=tmp_path)
    free_run.make_ready(first)
    description = first.data / "data.json"
    before = description.stat().st_mtime_ns
    again = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(text, "seed=1"), name="b", out=tmp_path)
    free_run.make_ready(again)
    elsewhere = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(text), out=tmp_path / "o", data=first.data)
    free_run.make_ready(elsewhere)
    assert description.stat().st_mtime_ns == before and not (tmp_path / "o/data").exists()
    with pytest.raises(ConfigError, match="holds the data text-.*, and the run needs text-.*; leave it out"):
        resolve("mqar_cliff", params=PARAMS, overrides=of_text(text, "data.block_size=48"), data=first.data)


def test_a_training_that_was_killed_goes_on_by_the_same_command(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = command(text, "training.steps=60", "training.validate_every=0", "reporting.checkpoint_every=6")
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    killed = subprocess.Popen([sys.executable, "-m", "ripstop", *line], cwd=tmp_path, env=there, stdout=subprocess.DEVNULL)
    checkpoints = tmp_path / "results/free/mqar_cliff/runs/r/checkpoints"
    deadline = time.monotonic() + 200
    while not list(checkpoints.glob("step-*.pt")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (checkpoints.parent / "training.json").exists()
    assert call(monkeypatch, tmp_path, *line) == 0
    said = capsys.readouterr().out
    assert "resum" in said and "preparing the data" not in said
    assert json.loads((checkpoints.parent / "training.json").read_text())["outcome"] == "finished"


def test_the_other_ranks_wait_for_rank_0(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 begins first and writes nothing; it goes on when rank 0 has written all."""
    free = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(text), name="r", out=tmp_path)
    script = "import sys; from test_free_run import as_rank; as_rank(*sys.argv[1:])"
    there = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "RANK": "1", "WORLD_SIZE": "2"}
    waiting = subprocess.Popen([sys.executable, "-c", script, str(text), str(tmp_path)], env=there, stdout=subprocess.PIPE)
    assert waiting.stdout is not None and waiting.stdout.readline() == b"resolved\n"
    time.sleep(0.5)
    assert tree(tmp_path) == {} and waiting.poll() is None
    monkeypatch.delenv("RANK", raising=False)
    free_run.make_ready(free)
    rest, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and rest == b"ready True\n"
    left = [path.name for path in tmp_path.rglob("*preparing*")]
    assert left == []


def as_rank(text: str, out: str) -> None:
    """What the test above runs in a process of its own."""
    free = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(Path(text)), name="r", out=Path(out))
    print("resolved", flush=True)
    free_run.make_ready(free)
    print("ready", free.is_ready, flush=True)


def test_what_rank_0_fails_at_ends_the_others(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text vanishes behind the checks, so that the preparation fails."""
    own = tmp_path / "text.jsonl"
    own.write_bytes(text.read_bytes())
    out = tmp_path / "out"
    free = resolve("mqar_cliff", "swa_mla_small", params=PARAMS, overrides=tiny(own), name="r", out=out)
    own.unlink()
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match=r"text.jsonl"):
        free_run.make_ready(free)
    assert not free.is_ready and not free.folder.exists() and not list(out.rglob("*.preparing"))


def test_a_dry_run_tells_what_the_run_comes_to_and_writes_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path, *command(text), "--dry-run") == 0
    comes_to, config = capsys.readouterr().out.split("---\n")
    told = yaml_file.parse(comes_to, "told")
    assert tree(tmp_path) == {}
    assert yaml_file.parse(config, "config")["training"]["tokens_per_step"] == 192
    # Bytes and three specials, tied. A window of 2 heads of 8; the latents by their widths; three norms.
    window = 4 * 16 * 16
    latent = 16 * 2 * 8 + 16 * 12 + 8 + 8 * 2 * 8 + 2 * 4 * 16
    assert told["model"]["parameters"] == 259 * 16 + window + latent + 3 * 16
    pairs_of_window = 9 * 10 // 2 + 23 * 9
    window_flops = 2 * window + 4 * 16 * pairs_of_window // 32
    latent_flops = 2 * (latent - 8) + 2 * 2 * (8 + 4) * (32 * 33 // 2) // 32
    assert abs(told["model"]["forward_flops_per_token"] - (2 * 259 * 16 + window_flops + latent_flops)) < 3 * 5 * 16
    assert (told["tokens"], told["steps"], told["model"]["seq_len"]) == (4 * 192, 4, 32)
    assert float(told["training_flops"]) == pytest.approx(768 * 3 * told["model"]["forward_flops_per_token"], rel=1e-3)
    assert told["notes"][-1] == "the preset as it stands has 150,055,936 parameters with the 50,257 ids that it is for"
    assert told["folder"] == "results/free/mqar_cliff/runs/r" and told["data"].endswith(", to be prepared")


def test_the_vocabulary_as_far_as_it_is_known(text: Path, tmp_path: Path) -> None:
    def free(*overrides: str) -> FreeRun:
        return resolve("mqar_cliff", params=PARAMS, overrides=of_text(text, *overrides), out=tmp_path)

    assert vocabulary(free().run.data, None)[0] == 259
    assert vocabulary(free("data.tokenizer={kind: bpe, vocab_size: 300}").run.data, None)[0] == 300
    assert vocabulary(free("data.tokenizer={kind: gpt2}").run.data, None)[0] == PRESETS["swa_mla_base"].vocab_size - 1 + 3
    assert vocabulary(DocumentsConfig(), None)[0] == 1
    small = free("data.tokenizer={kind: bpe, vocab_size: 5000}", "training.batch_size=4")
    small.run.data.prepare(small.data)
    n_ids, source = vocabulary(small.run.data, small.data)
    assert n_ids == small.run.data.vocab_size(small.data) < 5000 and source == "of the prepared data"
    told = yaml_file.parse(described(small).split("---\n")[0], "told")
    assert told["vocabulary"] == f"{n_ids} ids, of the prepared data" and told["data"] == f"{small.data}, prepared"
