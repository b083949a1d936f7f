"""COMET: what its score is checked by, that it is not run where it cannot be, and the whole path on a real, tiny checkpoint.

The last is slow: it needs envs/comet, which it builds where it is not there (a gigabyte from PyPI, minutes).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from evaluation.translated_runs import BAD, GOOD, lay_out, prepared, run_of, translations

from ripstop.config import ConfigError
from ripstop.evaluation.base import Subject
from ripstop.evaluation.comet import CometConfig, is_truncated, judged, score
from ripstop.evaluation.translated import Translation
from ripstop.files import write_text
from ripstop.records import Record, read_records

ROOT = Path(__file__).parents[2]
KNOWN = {"comet_model": "m", "comet_version": "2.2.7"}


def judgement(sources: list[int], **scores: list[float]) -> dict[tuple[str, str], tuple[float, int]]:
    """Of segments with so many words in the source."""
    made = [Translation("d", "w " * n, "h", f"r {i}") for i, n in enumerate(sources)]
    found = list(judged(made, scores, KNOWN))
    assert all(m.slice.items() >= KNOWN.items() for m in found)
    return {(m.metric, str(m.slice.get("source_words", ""))): (m.value, m.n) for m in found}


def test_means_by_hand() -> None:
    found = judgement([3, 20, 4], own=[0.2, 0.5, 0.4], identity=[0.9, 0.7, 0.8], wrong=[0.1, 0.3, 0.0])
    assert found == {
        ("comet", ""): (pytest.approx(1.1 / 3), 3),
        ("comet_by_length", "1-15"): (pytest.approx(0.3), 2),
        ("comet_by_length", "16-31"): (pytest.approx(0.5), 1),
        ("comet_identity", "1-15"): (pytest.approx(0.85), 2),
        ("comet_identity", "16-31"): (pytest.approx(0.7), 1),
        ("comet_wrong", "1-15"): (pytest.approx(0.05), 2),
        ("comet_wrong", "16-31"): (pytest.approx(0.3), 1),
        ("comet_valid", ""): (1, 3),
    }


@pytest.mark.parametrize(
    ("own", "identity", "wrong", "valid"),
    [
        ([0.2, 0.2], [0.9, 0.9], [0.1, 0.1], 1),
        ([0.9, 0.9], [0.9, 0.9], [0.1, 0.1], 1),  # translations that equal their references
        ([0.2, 0.8], [0.9, 0.7], [0.1, 0.1], 0),  # of long segments alone
        ([0.8, 0.2], [0.7, 0.9], [0.1, 0.1], 0),  # of short ones alone
        ([0.2, 0.2], [0.9, 0.7], [0.1, 0.7], 0),
        ([0.2, 0.2], [0.5, 0.5], [0.5, 0.5], 0),  # one score for whatever there is
    ],
)
def test_identity_scores_highest_at_every_length(own: list, identity: list, wrong: list, valid: int) -> None:
    assert judgement([3, 40], own=own, identity=identity, wrong=wrong)["comet_valid", ""] == (valid, 2)


class Echo:
    """Scores 1 for a reference as it is, and one hundredth of the place of another text; reads eight tokens of a text."""

    def __init__(self) -> None:
        self.encoder = SimpleNamespace(max_positions=10, tokenizer=lambda texts: {"input_ids": [t.split() for t in texts]})

    def predict(self, samples: list[dict[str, str]], **_: object) -> dict[str, list[float]]:
        return {"scores": [1.0 if s["mt"] == s["ref"] else int(s["mt"][1:]) / 100 for s in samples]}


def test_what_is_scored_against_each_reference() -> None:
    """What was written, the reference itself, and the reference of the next segment, around the end."""
    made = [Translation("d", f"s{i}", f"h{i}", f"r{i}0") for i in range(3)]
    found = score(Echo(), made, 2, 0)
    assert found == {"own": [0.0, 0.01, 0.02], "identity": [1.0] * 3, "wrong": [0.1, 0.2, 0.0]}


@pytest.mark.parametrize("side", ["source", "hypothesis", "reference"])
def test_a_text_that_the_encoder_cuts_off(side: str) -> None:
    for n, cut in ((8, False), (9, True)):
        texts = {"source": "a", "hypothesis": "b", "reference": "c"} | {side: "w " * n}
        assert is_truncated(Echo(), Translation("d", **texts)) is cut


def test_of_one_segment_there_is_no_wrong_reference() -> None:
    assert judgement([3], own=[0.2], identity=[0.9], wrong=[0.9])["comet_valid", ""] == (1, 1)


def test_settings_and_what_it_reads(tmp_path: Path) -> None:
    assert CometConfig().environment == "comet" and CometConfig().files == ()
    config, _ = prepared(tmp_path)
    run = run_of(config, "0", CometConfig(), seed=2)
    assert run.evaluation["comet"].reads(run) == ["ratio-0_seed-2/parts/translation"]
    with pytest.raises(ConfigError):
        CometConfig.parse({"model": ""}, "c")


def test_without_the_package_it_is_not_run_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the environment of the tests."""
    config, data = prepared(tmp_path)
    run = run_of(config, "0", CometConfig())
    subject = Subject(run, tmp_path / run.name, data, tmp_path / "out", torch.device("cpu"))
    with pytest.raises(ConfigError, match="no records, and they are read here"):
        list(run.evaluation["comet"].measure(subject))
    lay_out(subject.folder, translations(BAD))
    (found,) = run.evaluation["comet"].measure(subject)
    assert (found.metric, found.value, found.n) == ("comet_not_run", 1, 6)
    assert found.slice == {"why": "unbabel-comet is not installed"}
    assert capsys.readouterr().out.endswith("COMET is not run: unbabel-comet is not installed\n")


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of envs/comet."""
    found = ROOT / ".venv-comet/bin/python"
    if not found.is_file():
        subprocess.run([ROOT / "envs/comet/setup"], check=True)
    return found


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Iterator[Path]:
    """A run with translations, and two checkpoints: one that scores identity highest, and one that scores it lowest."""
    root = tmp_path_factory.mktemp("comet")
    config, _ = prepared(root)
    run = run_of(config, "0", CometConfig(model=str(root / "metric"), batch_size=4))
    folder = root / "runs" / run.name
    for name, text in run.files().items():
        write_text(folder / name, text)
    write_text(folder / "comet.code", "digest\n")
    made = translations(BAD)
    long = "Im Anfang schuf Gott die Himmel und die Erde " * 6
    lay_out(folder, [*made, Translation("d", "In the beginning " * 8, GOOD[0], long)])
    program = Path(__file__).with_name("tiny_comet.py")
    for name, options in (("metric", []), ("reversed", ["reversed"])):
        (root / name).mkdir()
        subprocess.run([python, program, root / name, *options], check=True, capture_output=True)
    yield folder


def evaluated(python: Path, folder: Path, model: Path) -> tuple[list[Record], str]:
    """As the workflow evaluates the part: in its environment, by the command line."""
    root = folder.parents[1]
    write_text(folder / "comet.yaml", f"kind: comet\nmodel: {model}\nbatch_size: 4\n")
    command = [python, "-m", "ripstop", "evaluate", folder, "--data", root / "data", "--part", "comet"]
    there = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=there)
    assert done.returncode == 0, done.stderr
    return read_records(folder / "parts/comet/records.jsonl"), done.stdout


def value(records: list[Record], metric: str, **where: str) -> float:
    (found,) = [r.value for r in records if r.metric == metric and r.slice.items() >= where.items()]
    return found


@pytest.mark.slow
def test_a_real_checkpoint_scores(python: Path, run_folder: Path) -> None:
    root = run_folder.parents[1]
    records, said = evaluated(python, run_folder, root / "metric")
    assert value(records, "comet_valid") == 1 and value(records, "comet_truncated") == 1
    assert "1 of 7 segments were truncated by COMET's encoder" in said
    for words in ("1-15", "16-31"):
        assert value(records, "comet_identity", source_words=words) == pytest.approx(1, abs=1e-5)
    assert value(records, "comet") < value(records, "comet_identity", source_words="1-15")
    known = [r.slice for r in records]
    assert {(k["comet_model"], k["comet_version"], len(k["comet_sha256"])) for k in known} == {("metric", "2.2.7", 16)}
    again, _ = evaluated(python, run_folder, root / "metric" / "checkpoints/model.ckpt")
    assert [r.value for r in again] == [r.value for r in records]


@pytest.mark.slow
def test_a_checkpoint_that_scores_identity_lowest_is_not_valid(python: Path, run_folder: Path) -> None:
    records, _ = evaluated(python, run_folder, run_folder.parents[1] / "reversed")
    assert value(records, "comet_valid") == 0
    assert value(records, "comet") > value(records, "comet_identity", source_words="1-15")


@pytest.mark.slow
def test_a_model_that_is_not_there_is_not_run(python: Path, run_folder: Path) -> None:
    root = run_folder.parents[1]
    ((record,), said) = evaluated(python, run_folder, root / "no_such_model")
    assert (record.metric, record.slice) == ("comet_not_run", {"why": f"there is no model at {root}/no_such_model"})
    ((record,), said) = evaluated(python, run_folder, Path("Unbabel/no-such-model"))
    assert record.metric == "comet_not_run" and "COMET is not run" in said
    assert str(record.slice["why"]).startswith("the model Unbabel/no-such-model cannot be fetched")
