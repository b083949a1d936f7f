"""The part `stability`: what is unstable by hand, and the unigram model that has to be beaten."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from ripstop.config import ConfigError
from ripstop.data.text import TextConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.evaluate import _measurements
from ripstop.evaluation.stability import StabilityConfig, is_unstable
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.runs import Run
from ripstop.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("losses", "unstable"),
    [
        ([5.0, 4.0, 3.0], False),
        ([5.0, 3.0, 3.5], False),  # half a nat is what it may lose
        ([5.0, 3.0, 3.51], True),
        ([3.0, 4.5, 3.2], False),  # back from a spike
        ([6.0, 6.0], True),  # no better than a unigram model
        ([4.9, 6.0], True),
        ([6.1, 5.9], False),
        ([3.0, math.nan], True),
        ([3.0, math.inf], True),
    ],
)
def test_what_is_unstable(losses: list[float], unstable: bool) -> None:
    assert is_unstable(losses, 6.0, 0.5) is unstable


def run(file: Path, **training: Any) -> Run:
    values = {"source": {"path": str(file)}, "tokenizer": {"kind": "bytes"}, "block_size": 32, "held_out_share": 0.3}
    told = {"steps": 2, "tokens_per_step": 64, "lr": 1e-3, "validate_every": 1, "on_divergence": "record"} | training
    return Run(
        study="s", scale="cpu", name="r", seed=0, factors={}, data=TextConfig.parse(values, "data"),
        model=DecoderOnlyConfig.parse({"d_model": 8, "pattern": "A", "mixers": {"A": {"kind": "attention"}}}, "model"),
        training=TrainingConfig.parse(told, "training"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("text")
    texts = [f"{'ab' * (n % 7 + 1)}{n}" for n in range(60)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = run(folder / "text.jsonl")
    made.data.prepare(folder)
    return Subject(made, folder, folder, folder, torch.device("cpu"))


def left(subject: Subject, *losses: float) -> None:
    rows = [{"step": step, "loss": loss, "n": 123} for step, loss in enumerate(losses, 1)]
    (subject.folder / "training.json").write_text(json.dumps({"validation": rows}))


def test_it_reads_what_the_training_measured(subject: Subject) -> None:
    left(subject, 5.0, 1.0, 1.4)
    found = {one.metric: one for one in StabilityConfig().measure(subject)}
    assert {name: one.value for name, one in found.items() if name != "unigram_loss"} == {
        "lowest_held_out_loss": 1.0, "last_held_out_loss": 1.4, "unstable": 0
    }  # fmt: skip
    assert found["last_held_out_loss"].n == 123 and found["unstable"].slice == {"lost": 0.5}
    assert {one.metric: one.value for one in StabilityConfig(lost=0.3).measure(subject)}["unstable"] == 1
    data = subject.run.data
    assert isinstance(data, TextConfig)
    counts = Counter(i for ids in data.pieces(subject.data, "train") for i in ids.tolist())
    held = [i for ids in data.pieces(subject.data, "valid") for i in ids.tolist()]
    plain = -sum(math.log(counts[i] / counts.total()) for i in held) / len(held)
    assert found["unigram_loss"].value == pytest.approx(plain, abs=0.1), "relative frequencies, but for smoothing"
    left(subject, 9.0, found["unigram_loss"].value + 0.01)
    assert {one.metric: one.value for one in StabilityConfig().measure(subject)}["unstable"] == 1


def test_one_that_diverged_says_that_alone(subject: Subject) -> None:
    left(subject)
    told = [(one.metric, one.value) for one in _measurements(StabilityConfig(), subject, {"outcome": "diverged"})]
    assert told == [("diverged", 1)]
    with pytest.raises(ConfigError, match="measured nothing on held-out data"):
        list(StabilityConfig().measure(subject))


def test_what_cannot_be_measured(subject: Subject) -> None:
    file = subject.folder / "text.jsonl"
    StabilityConfig().check(subject.run)
    with pytest.raises(ConfigError, match=r"training\.validate_every is 0, so that no held-out loss says how"):
        StabilityConfig().check(run(file, validate_every=0))
    with pytest.raises(ConfigError, match=r"training\.on_divergence: is fail, and a training that diverges is an outcome here"):
        StabilityConfig().check(run(file, on_divergence="fail"))
