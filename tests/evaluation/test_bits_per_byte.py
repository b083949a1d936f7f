"""Bits per byte, of models and of the n-gram baseline: on values worked out by hand, by position, and over every byte once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ripstop.config import ConfigError
from ripstop.data import DATA
from ripstop.data.text import TextConfig
from ripstop.data.tokenizer import BOS, PAD
from ripstop.evaluation.base import Subject
from ripstop.evaluation.bits_per_byte import BitsPerByteConfig
from ripstop.evaluation.kneser_ney import KneserNey
from ripstop.evaluation.ngram import NgramConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.runs import Run

MODEL = {
    "d_model": 16,
    "pattern": "AM",
    "mixers": {"A": {"kind": "attention", "n_heads": 2}, "M": {"kind": "mamba2", "d_state": 4, "head_dim": 8}},
    "embedding_std": 0.5,
}


def run(file: Path, **data: Any) -> Run:
    values = {"source": {"path": str(file)}, "tokenizer": {"kind": "bytes"}, "block_size": 64, "held_out_share": 0.2}
    return Run(
        study="s", scale="cpu", name="r", seed=0, factors={}, data=TextConfig.parse(values | data, "data"),
        model=DecoderOnlyConfig.parse(MODEL, "model"), training=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("text")
    texts = [f"{n} says ü " + "abc " * (n % 17) for n in range(80)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = run(folder / "text.jsonl")
    made.data.prepare(folder)
    return Subject(made, folder, folder, folder, torch.device("cpu"))


def test_every_document_is_scored_alone(subject: Subject) -> None:
    """As documents one by one, in rows of their own: packing and batches make no difference."""
    data = subject.run.data
    assert isinstance(data, TextConfig)
    torch.manual_seed(0)
    with torch.inference_mode():
        size, loss, whole, *parts, past = BitsPerByteConfig(positions=[0, 8, 32], past=8, tokens_per_batch=300).measure(subject)
    torch.manual_seed(0)
    model = subject.model()
    assert (size.metric, size.value) == ("parameters", subject.run.model.num_params(259))
    nats, n, at = 0.0, 0, {0: [0.0, 0], 8: [0.0, 0], 32: [0.0, 0]}
    for batch, bytes_BT in data.held_out_bytes(subject.data, "test", 64):
        for number in range(1, int(batch.segments_BT.max()) + 1):  # type: ignore[union-attr]
            own = batch.segments_BT == number
            logits = model(type(batch)(batch.tokens_BT[own][None], batch.targets_BT[own][None]))[0]
            nats_T = F.cross_entropy(logits, batch.targets_BT[own], reduction="none").tolist()
            nats, n = nats + sum(nats_T), n + len(nats_T)
            for position, (value, size) in enumerate(zip(nats_T, bytes_BT[own].tolist(), strict=True)):
                at[max(edge for edge in at if edge <= position)][0] += value
                at[max(edge for edge in at if edge <= position)][1] += size
    n_bytes = sum(len(text.encode()) for text in data.held_out_texts(subject.data, "test"))
    assert (whole.metric, whole.unit, whole.n, whole.slice) == ("bits_per_byte", "bits", n, {"split": "test"})
    assert whole.value == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert (loss.metric, loss.value) == ("loss", pytest.approx(nats / n, rel=1e-5))
    assert [part.slice["position"] for part in parts] == [0, 8, 32] and sum(part.n for part in parts) == n
    for part in parts:
        value, size = at[part.slice["position"]]  # type: ignore[index]
        assert part.value == pytest.approx(value / math.log(2) / size, rel=1e-5)
    (second, n_second), (third, n_third) = at[8], at[32]
    assert (past.metric, past.slice) == ("bits_per_byte_past", {"split": "test", "position": 8})
    assert past.value == pytest.approx((second + third) / math.log(2) / (n_second + n_third), rel=1e-5)
    assert past.n == parts[1].n + parts[2].n


def test_a_uniform_model_costs_the_vocabulary(subject: Subject) -> None:
    model = subject.run.model.build(subject.run.data.info(subject.data))
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    part = BitsPerByteConfig(split="valid")
    object.__setattr__(subject, "model", lambda: model)
    with torch.inference_mode():
        _, _, whole, *_ = part.measure(subject)
    object.__delattr__(subject, "model")
    data = subject.run.data
    assert isinstance(data, TextConfig)
    assert whole.value == pytest.approx(whole.n * math.log2(259) / data.n_bytes(subject.data, "valid"), rel=1e-6)


def test_the_baseline_is_its_model_on_this_data(subject: Subject) -> None:
    data = subject.run.data
    assert isinstance(data, TextConfig)
    tokens, *found = NgramConfig(orders=[1, 3]).measure(subject)
    train = data.pieces(subject.data, "train")
    assert (tokens.metric, tokens.value) == ("ngram_train_tokens", sum(map(len, train)))
    for order, measured in zip((1, 3), found, strict=True):
        p_N = KneserNey(train, order, 259, BOS, never=[PAD]).probabilities(data.pieces(subject.data, "test"))
        assert measured.slice == {"split": "test", "order": order} and measured.n == len(p_N)
        assert measured.value == pytest.approx(-np.log2(p_N).sum() / data.n_bytes(subject.data, "test"))
    assert found[1].value < found[0].value
    few, *_ = NgramConfig(orders=[1], train_tokens=100).measure(subject)
    assert 64 < few.value <= 128, "of whole rows"


def test_what_cannot_be_measured(subject: Subject) -> None:
    other = subject.run.replace(data=DATA.parse({"kind": "vocabulary"}))
    for part in (BitsPerByteConfig(), NgramConfig()):
        part.check(subject.run)
        with pytest.raises(ConfigError, match="bits per byte need data of kind text, and this is vocabulary; remove this part"):
            part.check(other)
    with pytest.raises(ConfigError, match="tokens_per_batch: 63 does not hold a row, which takes 64; raise it"):
        BitsPerByteConfig(tokens_per_batch=63).check(subject.run)
    with pytest.raises(ConfigError, match=r"past is 7, which is none of positions, \[0, 8\]; add it to them"):
        BitsPerByteConfig.parse({"positions": [0, 8], "past": 7}, "part")
    for positions in ([1, 2], [0, 5, 5], [0, 9, 3]):
        with pytest.raises(ConfigError, match="positions must rise without repeats from 0"):
            BitsPerByteConfig.parse({"positions": positions}, "part")
