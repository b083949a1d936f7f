"""Several parts of a run by one command: which they are, in which order, and a quick look that leaves nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ripstop import __main__ as cli
from ripstop.config import ConfigError
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation import PARTS, groups
from ripstop.evaluation.answers import AnswersConfig
from ripstop.evaluation.asking import Asking
from ripstop.evaluation.context import ContextConfig
from ripstop.evaluation.likelihood import LikelihoodConfig
from ripstop.evaluation.pronouns import PronounsConfig
from ripstop.evaluation.quality import QualityConfig
from ripstop.evaluation.recall import RecallConfig
from ripstop.evaluation.state_size import StateSizeConfig
from ripstop.evaluation.translation import TranslationConfig
from ripstop.files import write_text
from ripstop.mixers.attention import AttentionConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement
from ripstop.runs import Run


@pytest.fixture
def laid_out(tmp_path: Path) -> tuple[Path, Path]:
    """A run that trains nothing, with a part of two groups, and its data."""
    made = Run(
        study="s",
        scale="cpu",
        name="r",
        seed=0,
        factors={},
        data=MqarConfig(n_keys=4, n_values=4, num_pairs=[2], n_test=64),
        model=DecoderOnlyConfig(d_model=16, pattern="C", mixers={"C": AttentionConfig(n_heads=1)}),
        training=None,
        evaluation={"recall": RecallConfig(), "size": StateSizeConfig()},
    )
    for name, text in made.files().items():
        write_text(tmp_path / "r" / name, text)
    for stage in ("train", "recall", "size"):
        write_text(tmp_path / "r" / f"{stage}.code", "0123456789abcdef\n")
    made.data.prepare(tmp_path / "data")
    return tmp_path / "r", tmp_path / "data"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit status of `python -m ripstop evaluate ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["ripstop", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


def left(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("parts/*/records.jsonl")}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], {"recall", "size"}),
        (["--only", "quality"], {"recall"}),
        (["--only", "efficiency"], {"size"}),
        (["--part", "size"], {"size"}),
    ],
)
def test_what_is_measured(
    options: list[str], parts: set[str], laid_out: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = laid_out
    assert run(monkeypatch, folder, "--data", data, *options) == 0
    assert left(folder) == parts


def test_a_quick_look_prints_and_leaves_nothing(
    laid_out: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = laid_out
    before = sorted(folder.rglob("*"))
    assert run(monkeypatch, folder, "--data", data, "--quick") == 0
    assert sorted(folder.rglob("*")) == before
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("recall: accuracy ") and line.endswith("control own") for line in lines)
    assert any(line.startswith("size: state_bytes ") and " bytes of 1" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "qualitty"], "--only qualitty: no such group; did you mean 'quality'?"),
        (["--only", "context"], "no part is of the group context, there are recall (quality), size (efficiency)"),
        (["--only", "quality", "--part", "size"], "--part size and --only quality name parts twice"),
        (["--part", "sizes"], "sizes.yaml: no such file"),
    ],
)
def test_mistakes(
    options: list[str],
    said: str,
    laid_out: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, data = laid_out
    assert run(monkeypatch, folder, "--data", data, *options) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert left(folder) == set()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: no such run"):
        groups.parts_of(tmp_path / "none")
    with pytest.raises(ConfigError, match="has no part to measure; `python -m ripstop plan --write`"):
        groups.parts_of(tmp_path)


def test_what_is_read_is_made_before(tmp_path: Path) -> None:
    for name, kind in (("a", "quality"), ("z", "translation"), ("b", "likelihood"), ("train", "")):
        write_text(tmp_path / f"{name}.code", "x\n")
        write_text(tmp_path / f"{name}.yaml", f"kind: {kind}\n")
    assert groups.parts_of(tmp_path) == {"b": LikelihoodConfig, "z": TranslationConfig, "a": QualityConfig}
    assert list(groups.parts_of(tmp_path)) == ["b", "z", "a"]


def test_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of another environment always, one that reads other parts where nothing is left."""
    write_text(tmp_path / "size.code", "x\n")
    write_text(tmp_path / "size.yaml", "kind: state_size\n")
    write_text(tmp_path / "read.code", "x\n")
    write_text(tmp_path / "read.yaml", "kind: quality\n")
    assert groups.left_out(tmp_path, "size", False) == groups.left_out(tmp_path, "size", True) == ""
    assert groups.left_out(tmp_path, "read", False) == ""
    assert groups.left_out(tmp_path, "read", True).startswith("read: left out, reads what other parts leave")
    monkeypatch.setattr(StateSizeConfig, "environment", "comet")
    assert groups.left_out(tmp_path, "size", False).startswith("size: left out, needs the environment envs/comet;")


def test_quick_takes_fewer_of_everything_and_never_more() -> None:
    translation = TranslationConfig.parse({"n_translations": 200, "generation": {"max_new_tokens": 4, "eos": 2}}, "t")
    found = groups.quick(translation)
    assert isinstance(found, TranslationConfig) and found.n_translations == 8 and found.generation == translation.generation
    assert groups.quick(translation.replace(n_translations=3)) == translation.replace(n_translations=3)
    assert groups.quick(ContextConfig()) == ContextConfig(n_pieces=24, n_bootstrap=100)
    assert groups.quick(PronounsConfig()) == PronounsConfig(n_items=24)  # none given: all of them
    asking = AnswersConfig(asking=Asking(batch_size=4))
    assert groups.quick(asking) == AnswersConfig(asking=Asking(batch_size=4, n_questions=8), n_bootstrap=100)


def test_a_quick_look_takes_fewer_of_settings_that_there_are() -> None:
    assert groups.QUICK.keys() <= {name for config in [*PARTS, Asking] for name in config.model_fields}


def test_a_measured_value_in_words() -> None:
    assert groups.shown(Measurement("loss", 1.23456, "nats", 9, {"control": "own"})) == "loss 1.235 nats of 9, control own"
