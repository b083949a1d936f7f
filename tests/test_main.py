"""The command line: what a user or a machine caused is one sentence on standard error, and nothing is written."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from paper import made_up

from ripstop import __main__ as cli
from ripstop import ending, params, studies
from ripstop.config import ConfigError, Strict, TrainingError
from ripstop.records import Record, read_records, write_records

ROOT = Path(__file__).parents[1]
PARAMS = str(ROOT / "params.yaml")
CLAIMS = str(ROOT / "paper" / "claims.yaml")
COMMANDS = sorted(command.name or command.callback.__name__.replace("_", "-") for command in cli.app.registered_commands)  # type: ignore[union-attr]


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Exit status of `python -m ripstop ARGUMENTS` in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["ripstop", *arguments])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


def call(folder: Path, *arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command as a process of its own."""
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    command = [*prefix, sys.executable, "-m", "ripstop", *arguments]
    done = subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True, encoding="utf-8", timeout=120)
    return done.returncode, done.stdout, done.stderr


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its bytes, every folder with None."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def lay_out(folder: Path, text: str | bytes | None = None, scales: dict[str, str] | None = None) -> None:
    """A checkout with params.yaml (the shipped one, or `text`), overlays, and results that must stay as they are."""
    content = (ROOT / "params.yaml").read_bytes() if text is None else text.encode() if isinstance(text, str) else text
    (folder / "params.yaml").write_bytes(content)
    shipped = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / params.OVERLAYS).glob("*.yaml")}
    for name, overlay in (shipped if scales is None else scales).items():
        (folder / params.OVERLAYS).mkdir(parents=True, exist_ok=True)
        (folder / params.OVERLAYS / f"{name}.yaml").write_text(overlay, encoding="utf-8")
    for study in studies.names():
        (folder / "paper/sections").mkdir(parents=True, exist_ok=True)
        (folder / f"paper/sections/{study}.tex").touch()
    for scale in ("cpu", "smoke"):
        run = folder / "results" / scale / "mqar_cliff" / "runs" / "architecture-old_seed-0"
        run.mkdir(parents=True)
        (run / "model.safetensors").write_bytes(b"weights")
        (run / "train.code").write_text("0123456789abcdef\n")


def of_study(**settings: str) -> tuple[str, ...]:
    return tuple(f"--set=studies.mqar_cliff.{key.replace('__', '.')}={value}" for key, value in settings.items())


SCALAR = "scale: cpu\nstudies: {mqar_cliff: {seeds: [0]}}\n"
MISTAKES: dict[str, tuple[tuple[str, ...], str | bytes | None, str]] = {
    # name: arguments of `plan`, params.yaml, what has to be said
    "no such scale": (("--scale", "smok"), None, "params.yaml: scale 'smok' does not exist; did you mean 'smoke'?"),
    "a scale that is a command": (("--scale", "x; touch P; y"), None, "params.yaml: scale 'x; touch P; y' does not exist"),
    "a scale that is a path": (("--scale", "../../evil"), None, "params.yaml: scale '../../evil' does not exist"),
    "an empty scale": (("--scale", ""), None, "params.yaml: scale '' does not exist"),
    "no such study": (("--set", "studies.mqar_clif.seeds=[0]"), None, "params.yaml has no studies.mqar_clif; did you mean"),
    "no such key": (of_study(sedes="[0]"), None, "params.yaml: studies.mqar_cliff.sedes: unknown key; did you mean 'seeds'?"),
    "no value": (("--set", "studies.mqar_cliff.seeds"), None, "--set studies.mqar_cliff.seeds: write it as key=value"),
    "seeds that are truths": (of_study(seeds="[true]"), None, "studies.mqar_cliff.seeds.0: needs a whole number (got True)"),
    "seeds that are text": (of_study(seeds="['1']"), None, "studies.mqar_cliff.seeds.0: needs a whole number (got '1')"),
    "seeds as yes and no": (of_study(seeds="[yes, no]"), None, "studies.mqar_cliff.seeds.0: needs a whole number (got 'yes')"),
    "a seed as a time": (of_study(seeds="[1:30]"), None, "studies.mqar_cliff.seeds.0: needs a whole number (got '1:30')"),
    "a seed with a fraction": (of_study(seeds="[1.0]"), None, "studies.mqar_cliff.seeds.0: needs a whole number (got 1.0)"),
    "no seeds": (of_study(seeds="[]"), None, "studies.mqar_cliff.seeds: list should have at least 1 item"),
    "a negative seed": (of_study(seeds="[-1]"), None, "studies.mqar_cliff.seeds.0: input should be greater than or equal to 0"),
    "a seed twice": (of_study(seeds="[3, 3]"), None, "studies.mqar_cliff"),
    "an infinite rate": (of_study(training__lr=".inf"), None, "mqar_cliff.training.lr: needs a finite number (got inf)"),
    "a rate that overflows": (of_study(training__lr="1e999"), None, "studies.mqar_cliff.training.lr: needs a finite number"),
    "a rate that is none": (of_study(training__lr=".nan"), None, "studies.mqar_cliff.training.lr: needs a finite number"),
    "no step": (of_study(training__steps="0"), None, "studies.mqar_cliff.training.steps: input should be greater than"),
    "endless steps": (of_study(training__steps="1000000000000"), None, "mqar_cliff.training.steps: input should be less than"),
    "no token": (of_study(training__tokens_per_step="0"), None, "studies.mqar_cliff.training.tokens_per_step: input should be"),
    "an absurd width": (of_study(d_model="1000000000"), None, "params.yaml: studies.mqar_cliff.d_model: input should be less"),
    "no training": (of_study(training="null"), None, "studies.mqar_cliff.training: needs a mapping (got None)"),
    "test pairs that are none": (of_study(data__test_pairs="''"), None, "studies.mqar_cliff.data.test_pairs: needs a list"),
    "an unknown kind": (of_study(mixers__M__kind="mamba22"), None, "mixers.M: unknown kind 'mamba22'; did you mean 'mamba2'?"),
    "a key of a kind": (of_study(mixers__M__d_sate="3"), None, "studies.mqar_cliff.mixers.M.d_sate: unknown key; did you mean"),
    "an arm's name": (("--set", "studies.mqar_cliff.patterns.a/b=M"), None, "studies.mqar_cliff.patterns: 'a/b' is no name"),
    "an interpolation": (of_study(d_model="${nope}"), None, "studies.mqar_cliff.d_model: '${nope}' would be interpolated"),
    "a state of no element": (
        ("--set", "studies.d_state_scaling.shapes=[[0, 2]]"), None, "studies.d_state_scaling.shapes.0.0: input"
    ),
    "an empty file": ((), "", "params.yaml: is empty"),
    "a comment alone": ((), "# nothing\n", "params.yaml: is empty"),
    "a list": ((), "- scale: cpu\n", "params.yaml: needs a mapping"),
    "not UTF-8": ((), b"scale: cpu\nstudies: {s: {a: \xff}}\n", "params.yaml:2: not UTF-8 text"),
    "UTF-16": ((), SCALAR.encode("utf-16"), "params.yaml:1: not UTF-8 text"),
    "a NUL": ((), "scale: cpu\nstudies: {s: {a: \0}}\n", "params.yaml:2: holds a zero byte, which no text has"),
    "a tab": ((), "scale: cpu\nstudies:\n\ts: 1\n", "params.yaml:3: not YAML: a tab"),
    "a bracket too few": ((), "scale: [cpu\nstudies: {}\n", "params.yaml:2: not YAML"),
    "a key twice": ((), SCALAR + "scale: smoke\n", "params.yaml:3: the key 'scale' stands twice, first in line 1"),
    "a nested key twice": ((), "scale: cpu\nstudies: {s: {a: 1, a: 2}}\n", "params.yaml:2: studies.s: the key 'a' stands"),
    "a key that is a number": ((), "scale: cpu\nstudies: {s: {1: 2}}\n", "params.yaml:2: studies.s: the key 1 is no text"),
    "a tag": ((), "scale: !!python/object:os.system x\n", "params.yaml:1: scale: the tag"),
    "a merge key": ((), "scale: cpu\nstudies: {s: {<<: {a: 1}}}\n", "params.yaml:2: studies.s: the merge key <<"),
    "two documents": ((), SCALAR + "---\n" + SCALAR, "params.yaml:3: a second document starts"),
    "YAML 1.1": ((), "%YAML 1.1\n---\n" + SCALAR, "params.yaml:1: %YAML names another version"),
    "yte": ((), "__use_yte__: true\n" + SCALAR, "params.yaml: __use_yte__: unknown key"),
    "overlays of before": ((), SCALAR + "scales: {}\n", "params.yaml: scales: an overlay stands in a file of its own"),
    "too deep": ((), "scale: " + "[" * 10_000 + "]" * 10_000, "nested more than 50 levels deep"),
    "a bomb": (
        (),
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        "more than 200000 values, aliases written out",
    ),
    "a number too long": ((), f"scale: {'9' * 5000}\n", "params.yaml:1: scale: a number of 5000 digits"),
    "no studies": ((), "scale: cpu\nstudies: {}\n", "params.yaml: studies: there is none"),
    "an empty block": ((), "scale: cpu\nstudies: {mqar_cliff: }\n", "params.yaml:2: studies.mqar_cliff: has no value"),
    "a block without keys": ((), "scale: cpu\nstudies: {mqar_cliff: {}}\n", "studies.mqar_cliff.seeds: missing, add it"),
    "a block that is a list": ((), "scale: cpu\nstudies: {mqar_cliff: [1]}\n", "studies.mqar_cliff: needs a mapping"),
    "a study without code": ((), "scale: cpu\nstudies: {mqar_clif: {a: 1}}\n", "mqar_clif"),
    "a study that is a path": ((), "scale: cpu\nstudies: {../x: {a: 1}}\n", "params.yaml: studies: '../x' is no name"),
    "a study that is a command": ((), "scale: cpu\nstudies: {$(touch P): {a: 1}}\n", "studies: '$(touch P)' is no name"),
    "a study's taken name": ((), "scale: cpu\nstudies: {paper: {a: 1}}\n", "a study cannot be called 'paper'"),
    "a scale of two": ((), "scale: [cpu, smoke]\nstudies: {s: {a: 1}}\n", "params.yaml: scale: needs text"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_parameters_is_one_sentence_and_moves_no_byte(
    mistake: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, text, told = MISTAKES[mistake]
    lay_out(tmp_path, text, None if text is None else {})
    before = tree(tmp_path)
    assert run(monkeypatch, tmp_path, "plan", *arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 2000
    assert tree(tmp_path) == before


OVERLAYS = {
    "an unknown study": ("mqar_clif: {seeds: [0]}", "workflow/scales/big.yaml: mqar_clif: no such study; did you mean"),
    "an unknown key": ("mqar_cliff: {sedes: [0]}", "workflow/scales/big.yaml: studies.mqar_cliff.sedes: unknown key;"),
    "a key of no study": ("all: {trainning: {steps: 1}}", "big.yaml: all.trainning: no study has this; did you mean"),
    "an arm that is not there": ("mqar_cliff: {drop: [patterns.mamba22]}", "drop: patterns.mamba22: there is no such key; did"),
    "every arm dropped": ("mqar_cliff: {patterns: {}, drop: [patterns]}", "studies.mqar_cliff.patterns: "),
    "an empty file": ("", "workflow/scales/big.yaml: is empty"),
    "broken": ("mqar_cliff: [", "workflow/scales/big.yaml:1: not YAML"),
    "a bad value": ("mqar_cliff: {d_model: '32'}", "big.yaml: studies.mqar_cliff.d_model: needs a whole number (got '32')"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OVERLAYS)
def test_a_mistake_in_the_overlay_of_another_scale_is_told_now(
    mistake: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, told = OVERLAYS[mistake]
    lay_out(tmp_path, scales={"big": text})
    before = tree(tmp_path)
    assert run(monkeypatch, tmp_path, "plan") == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan"], "params.yaml: no such file; run from the root of the repository or pass --params"),
        (["plan", "--params", "/"], "/: this is a folder, not a file"),
        (["plann"], "No such command 'plann'"),
        (["plan", "--sett", "a=1"], "No such option: --sett"),
        (["plan", "--scale"], "'--scale' requires an argument"),
        (["train", "none", "--data", "x"], "none/config.yaml: no such file"),
        (["prepare", "none"], "none/config.yaml: no such file; `python -m ripstop plan --write` writes it"),
        (["evaluate", "none", "--data", "x", "--part", "recall"], "none/config.yaml: no such file"),
        (["collect", "none/records.jsonl", "--out", "r.jsonl"], "none/records.jsonl: no such records; evaluate the run first"),
        (
            ["render", "mqar_clif", "--records", "r", "--out", "o"],
            "add src/ripstop/paper/studies/mqar_clif.py; did you mean 'mqar",
        ),
        (["render", "mqar_cliff", "--records", "r.jsonl", "--out", "o"], "r.jsonl: no such records"),
        (["render", "mqar_cliff", "--records", "r", "--reads", "x", "--out", "o"], "--reads x: write it as study=path"),
        (["render", "mqar_cliff", "--records", "r", "--dropped", "x", "--out", "o"], "--dropped x: write it as factor=value"),
        (["assemble", "none", "--scale", "cpu", "--out", "o", "--params", PARAMS], "none/numbers.json: no such file"),
        (["assemble", "none", "--scale", "cpu", "--out", "o"], "params.yaml: no such file"),
        (["publish", "none", "--out", "o"], "none/contents.json: no such file, or it is damaged"),
        (["verify", "--params", PARAMS], "no such file; the claims are kept in paper/claims.yaml"),
        (
            ["verify", "--params", PARAMS, "--registry", CLAIMS],
            "results/cpu: holds no records, and paper/verdicts.json no",
        ),
        (["verify", "--scale", "cpuu", "--params", PARAMS], "--scale cpuu: no such scale; did you mean 'cpu'?"),
        (["train"], "train: name the folder of a run, or by --study the study of a free run, and one of the two"),
        (["choose"], "Missing argument 'candidates'; `"),
        (["choose"], "ripstop choose --help` shows how it is used"),
        (["verify", "--scale", "../../x", "--params", PARAMS], "--scale ../../x: no such scale"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("error: ") and said.count("\n") == 1
    assert tree(tmp_path) == {}


def test_plan_prints_the_grid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, tmp_path, "plan", "--params", PARAMS, "--scale", "smoke") == 0
    assert "mqar_cliff: 9 runs in results/smoke/mqar_cliff/runs" in capsys.readouterr().out


def end(action: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and standard error of a command that does `action`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command() -> None:
        action()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ripstop"])
        status = ending.run(app)
    return status, capsys.readouterr().err


FULL = "error: the disk is full; free some space and run the command again\n"
MEMORY = "error: the memory does not suffice; make the model, the batch or the number of jobs smaller\n"


class Inner(Strict):
    n: int


def fail(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def out_of_memory() -> None:
    import numpy as np

    np.empty(2**62, dtype=np.uint8)


def out_of_torch_memory() -> None:
    import torch

    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("action", "status", "sentence"),
    [
        (fail(ConfigError("f.yaml: a:\n  wrong")), 2, "error: f.yaml: a: wrong\n"),
        (fail(TrainingError("the loss is nan")), 2, "error: the loss is nan\n"),
        (lambda: Inner(n="1"), 2, "error: Inner: n: needs a whole number (got '1')\n"),  # type: ignore[arg-type]
        (Path("/nowhere/at all").read_bytes, 1, "error: /nowhere/at all: no such file\n"),
        (Path("/").read_bytes, 1, "error: /: this is a folder, not a file; move it away\n"),
        (fail(OSError(28, "No space left on device")), 1, FULL),
        (fail(ConnectionError("no route\nto host")), 1, "error: no route to host\n"),
        (fail(KeyboardInterrupt()), 130, "error: stopped by Ctrl-C\n"),
        (fail(typer.Abort()), 130, "error: stopped by Ctrl-C\n"),
        (fail(SystemExit(143)), 143, ""),
        (fail(SystemExit("only words")), 1, "error: only words\n"),
        (fail(typer.Exit(3)), 3, ""),
        (fail(MemoryError()), 1, MEMORY),
        (out_of_memory, 1, MEMORY),
        (out_of_torch_memory, 1, MEMORY),
        (
            lambda: __import__("no_such_package.inside"),
            1,
            "error: the package no_such_package is not installed; activate the environment (. .venv/bin/activate), or make it "
            "with `make setup`\n",
        ),
        (
            Path("~no_such_user/x").expanduser,
            2,
            "error: a path begins with ~ and the name of nobody here; write the path out\n",
        ),
        (
            lambda: "one \udcff".encode(),
            2,
            "error: a text holds '\\udcff', half of a character or a byte that is no UTF-8, behind 'one '; correct the text\n",
        ),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, "error: stopped by SIGTERM\n"),
        (lambda: os.kill(os.getpid(), signal.SIGHUP), 129, "error: stopped by SIGHUP\n"),
        (lambda: os.kill(os.getpid(), signal.SIGUSR2), 140, "error: stopped by SIGUSR2\n"),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), 0, ""),
        (lambda: None, 0, ""),
    ],
)  # fmt: skip
def test_what_a_user_or_a_machine_caused_is_one_sentence(
    action: Callable[[], object], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert end(action, capsys) == (status, sentence)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("inside"), ModuleNotFoundError("gone", name="ripstop.gone"), KeyError("k")]
)
def test_a_bug_shows_its_traceback_and_the_log(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ending.LOG, "results/logs/it.log")
    status, said = end(fail(error), capsys)
    assert status == 1
    assert "Traceback" in said and type(error).__name__ in said
    assert said.endswith("error: this is a bug in ripstop; please report it with the lines above. The whole output is in "
                         "results/logs/it.log.\n")  # fmt: skip


def test_help_of_every_command_needs_no_torch() -> None:
    script = (
        "import sys\nfrom ripstop import __main__ as cli\nfor name in sys.argv[1:]:\n"
        "    sys.argv = ['ripstop', name, '--help']\n    try:\n        cli.main()\n    except SystemExit as e:\n"
        "        assert not e.code, name\nassert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script, *COMMANDS], env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ") == len(COMMANDS) > 8


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_one_sentence(tmp_path: Path, unbuffered: str) -> None:
    command = [sys.executable, "-m", "ripstop", "plan", "--help"]
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": unbuffered}
    process = subprocess.Popen(command, env=there, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (141, "error: nobody reads the output any more\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_one_sentence(tmp_path: Path, unbuffered: str) -> None:
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "ripstop", "plan", "--help"]
        done = subprocess.run(command, env=there, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, FULL)


def test_output_that_nothing_takes_names_where_it_went(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line, as translations are put: a full disk, a reader that went away, a stream that a shell closed."""

    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    for stream, status, sentence in (
        (Full(), 1, "error: standard output: the disk is full; free some space and run the command again\n"),
        (Gone(), 141, "error: nobody reads the output any more\n"),
        (None, 2, "error: standard output: is closed; leave it open, or send it to a file\n"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            assert end(lambda: ending.put("eins"), capsys) == (status, sentence)
    ending.put("zwei")
    assert capsys.readouterr().out == "zwei\n"


def test_a_command_whose_output_is_closed_ends_well(tmp_path: Path) -> None:
    command = f"{sys.executable} -m ripstop scale --params {PARAMS} >&-"
    done = subprocess.run(
        command, shell=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_signal_takes_away_what_was_being_written(tmp_path: Path) -> None:
    script = (
        "import sys, time, typer\nfrom pathlib import Path\nfrom ripstop import ending\nfrom ripstop.files import replacing\n"
        "app = typer.Typer()\n@app.command()\ndef command():\n    with replacing(Path('out.txt')) as temporary:\n"
        "        temporary.write_text('half'); print('ready', flush=True); time.sleep(60)\nsys.exit(ending.run(app))\n"
    )
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=there, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143 and time.monotonic() - started < 20
    process.stdout.close()
    assert tree(tmp_path) == {}


def test_text_of_any_script_is_told_in_any_locale(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("scale: cpü\nstudies: {s: {a: 1}}\n", encoding="utf-8")
    for environment in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8"}):
        status, _, said = call(tmp_path, "plan", **environment)
        assert status == 2
        assert said in (
            f"error: params.yaml: scale {shown} does not exist; did you mean 'cpu'?\n" for shown in (r"'cp\xfc'", "'cpü'")
        )


def test_output_of_any_script_is_printed_in_any_locale(tmp_path: Path) -> None:
    script = (
        "import sys, typer\nfrom ripstop import ending\napp = typer.Typer()\n@app.command()\ndef command():\n"
        "    print('pürs \u4e2d')\nsys.exit(ending.run(app))\n"
    )
    there = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=there, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "p\\xfcrs \\u4e2d\n", "")


def test_no_home_is_needed(tmp_path: Path) -> None:
    lay_out(tmp_path)
    status, out, said = call(tmp_path, "plan", "--scale", "smoke", prefix=("env", "-u", "HOME", "-u", "XDG_CACHE_HOME"))
    assert status == 0, said
    assert "mqar_cliff: 9 runs" in out
    assert not (tmp_path / "~").exists()


def test_from_records_to_paper_and_verdicts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study, runs = "mqar_cliff", tmp_path / "runs"
    by_run: dict[str, list[Record]] = {}
    for record in read_records(made_up.write(tmp_path / "made")[study]):
        by_run.setdefault(record.run, []).append(record)
    for name, records in by_run.items():
        write_records(runs / name / "records.jsonl", records)

    def call(*arguments: object) -> tuple[int, str]:
        status = run(monkeypatch, tmp_path, *map(str, arguments))
        return status, capsys.readouterr().out

    collected = f"results/cpu/{study}/records.jsonl"
    status, said = call("collect", *sorted(runs.glob("*/records.jsonl")), "--out", collected)
    assert (status, said) == (0, f"1134 records of 27 runs in {collected}\n")
    out = f"results/cpu/{study}/paper"
    metrics = ("--metrics", "m.json", "--curves", "c.csv")
    status, said = call("render", study, "--records", collected, "--out", out, *metrics)
    assert (status, said) == (0, f"22 numbers, 1 figures and 2 tables of {study} in {out}\n")
    assert Path("m.json").is_file() and Path("c.csv").is_file()
    text = ("--text", ROOT / "paper", "--params", PARAMS)
    status, said = call("assemble", out, "--scale", "cpu", "--out", "results/cpu/paper", *text)
    assert (status, said) == (0, "10 files in results/cpu/paper\n")
    Path("paper/figures").mkdir(parents=True)
    Path("paper/figures/old.pdf").write_text("old")
    assert call("publish", "results/cpu/paper") == (
        0,
        "paper/figures/old.pdf is not of this paper; delete it if it is an old one\n",
    )
    assert Path("paper/tables/claims.tex").is_file()
    Path(collected).unlink()  # these runs are not those of the grid
    verify = ("verify", "--registry", CLAIMS, "--params", PARAMS)
    status, said = call(*verify, "--record")
    assert status == 0 and "verdicts of scale cpu recorded in paper/verdicts.json" in said
    status, said = call(*verify)
    assert status == 0 and said.endswith("everything that was checked agrees\n")
    recorded = Path("paper/verdicts.json")
    recorded.write_text(recorded.read_text().replace('"verdict": "supported"', '"verdict": "refuted"'))
    status, said = call(*verify)
    assert status == 1 and "mqar_control_wrong was recorded as refuted and is now supported" in said
