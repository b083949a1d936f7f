"""Recall and bits per byte with a stored state: in float32 those of a forward pass, at every length."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ripstop.batch import IGNORE
from ripstop.config import ConfigError
from ripstop.data.mqar_gap import MqarGapConfig
from ripstop.data.text import TextConfig
from ripstop.evaluation.base import Subject
from ripstop.evaluation.stored_decoding import Decoding, StoredPart
from ripstop.evaluation.stored_recall import StoredRecallConfig
from ripstop.evaluation.stored_text import StoredTextConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.records import Measurement
from ripstop.runs import Run

MODEL = {
    "d_model": 16,
    "pattern": "AGM",
    "mixers": {
        "A": {"kind": "attention", "n_heads": 2},
        "G": {"kind": "gated_delta", "n_heads": 1, "head_k_dim": 8, "head_v_dim": 8},
        "M": {"kind": "mamba2", "d_state": 8, "head_dim": 8},
    },
    "embedding_std": 1.0,
}
WAYS = {"nearest": ["fp32", "int8", "int2"], "stochastic": ["int3"], "feedback": ["int3"]}


def run(data: Any) -> Run:
    return Run(
        study="s",
        scale="cpu",
        name="r",
        seed=0,
        factors={},
        data=data,
        model=DecoderOnlyConfig.parse(MODEL, "m"),
        training=None,
    )


def gap(**changes: Any) -> MqarGapConfig:
    pairs = {"n_keys": 8, "n_values": 8, "num_pairs": [2, 4], "n_test": 8, "n_valid": 4} | changes
    return MqarGapConfig.parse({"pairs": pairs, "n_filler": 3, "block_size": 16}, "data")


def subject(data: Any, folder: Path) -> Subject:
    data.prepare(folder)
    torch.manual_seed(0)
    return Subject(run(data), folder, folder, folder, torch.device("cpu"))


def measured(part: StoredPart, of: Subject) -> list[Measurement]:
    torch.manual_seed(0)
    with torch.inference_mode():
        return list(part.measure(of))


def pick(found: list[Measurement], metric: str, **where: Any) -> float:
    (value,) = [m.value for m in found if m.metric == metric and where.items() <= m.slice.items()]
    return value


def test_recall_in_float32_is_that_of_a_forward_pass_at_every_length(tmp_path: Path) -> None:
    """A model that was never trained answers something; which something, rounding changes."""
    of = subject(gap(), tmp_path)
    found = measured(StoredRecallConfig(**WAYS, lengths=[1, 2, 4], n_rows=8), of)
    for length in (1, 2, 4):
        exact = pick(found, "stored_accuracy", format="fp32", length=length)
        assert exact == pick(found, "forward_accuracy", length=length)
    assert {m.n for m in found if m.metric == "stored_accuracy"} == {8 * 4}
    assert pick(found, "chance") == 1 / 8


def test_what_is_asked_at_each_length_is_answered_by_that_rows_own_state(tmp_path: Path) -> None:
    """Against each length decoded from its first token on, answer by answer: a branch leaves nothing behind."""
    of = subject(gap(), tmp_path)
    together = measured(StoredRecallConfig(**WAYS, lengths=[1, 2, 4], n_rows=8), of)
    for length in (1, 2, 4):
        alone = measured(StoredRecallConfig(**WAYS, lengths=[length], n_rows=8), of)
        for form, rounding in (("fp32", "nearest"), ("int2", "nearest"), ("int3", "feedback")):
            where = {"format": form, "rounding": rounding, "length": length}
            assert pick(together, "stored_accuracy", **where) == pick(alone, "stored_accuracy", **where)


def test_bits_and_bytes_of_each_storage_are_told(tmp_path: Path) -> None:
    found = measured(StoredRecallConfig(**WAYS, lengths=[1, 2], n_rows=4), subject(gap(), tmp_path))
    assert pick(found, "state_bits_per_element", format="fp32") == 32
    n_keys = 32 * 2 * 16  # 32 tokens, keys and values, heads together 16 wide
    conv, memory, ssm = 3 * 24 + 3 * (32 + 2 * 8), 8 * 8, 4 * 8 * 8
    assert pick(found, "stored_state_bytes", format="fp32") == 4 * (n_keys + conv + memory + ssm)
    without, carried = (pick(found, "stored_state_bytes", format="int3", rounding=r) for r in ("stochastic", "feedback"))
    assert carried - without == (64 * 3 // 8 + 8 * 2) + (256 * 3 // 8 + 32 * 2)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("text")
    texts = [f"{n} says ü " + "abc " * (n % 40) for n in range(160)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    values = {"source": {"path": str(folder / "text.jsonl")}, "tokenizer": {"kind": "bytes"}, "held_out_share": 0.3}
    data = TextConfig.parse(values | {"block_size": 16, "held_out_block_size": 64}, "data")
    return subject(data, folder)


def test_bits_per_byte_in_float32_are_those_of_a_forward_pass(text: Subject) -> None:
    found = measured(StoredTextConfig(**WAYS, lengths=[1, 2, 4], n_rows=3), text)
    torch.manual_seed(0)
    model, data = text.model(), text.run.data
    assert isinstance(data, TextConfig)
    rows = [
        (batch, sizes)
        for batch, sizes in data.held_out_bytes(text.data, "test", 64)
        if batch.segments_BT is not None and bool((batch.segments_BT == 1).all())
    ][:3]
    with torch.inference_mode():
        nats_BT = torch.cat([F.cross_entropy(model(b).transpose(1, 2), b.targets_BT, reduction="none") for b, _ in rows])
    assert all(bool((b.targets_BT != IGNORE).all()) for b, _ in rows)
    bytes_BT = torch.cat([sizes for _, sizes in rows])
    for length, part in ((1, slice(0, 16)), (2, slice(16, 32)), (4, slice(32, 64))):
        expected = float(nats_BT[:, part].double().sum()) / math.log(2) / int(bytes_BT[:, part].sum())
        assert pick(found, "stored_bits_per_byte", format="fp32", length=length) == pytest.approx(expected, rel=1e-5)
    assert pick(found, "stored_bits_per_byte", format="int2", length=4) != pytest.approx(expected, rel=1e-3)


def test_too_few_long_documents_are_told(text: Subject) -> None:
    with pytest.raises(ConfigError, match=r"n_rows: only \d+ test rows are filled by one document, not 500; lower it"):
        measured(StoredTextConfig(n_rows=500, lengths=[1]), text)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"nearest": ["int8"]}, "fp32 is not among them, and every loss is against it"),
        ({"nearest": ["fp32", "int9"]}, "no number format is called 'int9'; did you mean 'int"),
        ({"lengths": [2, 1]}, r"lengths must rise without repeats from 1 or more, and are \[2, 1\]"),
        ({"lengths": [0, 1]}, "lengths must rise"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StoredRecallConfig.parse(settings, "part")


def test_runs_that_cannot_be_measured_are_refused(text: Subject) -> None:
    with pytest.raises(ConfigError, match="stored_recall needs data of kind mqar_gap, and the run's is text"):
        StoredRecallConfig().check(text.run)
    with pytest.raises(ConfigError, match="num_pairs: 3 is not among data.pairs.test_pairs"):
        StoredRecallConfig(num_pairs=3, n_rows=8).check(run(gap()))
    with pytest.raises(ConfigError, match="n_rows: 9 are asked of a test of 8 rows"):
        StoredRecallConfig(n_rows=9).check(run(gap()))
    with pytest.raises(ConfigError, match="bits per byte need data of kind text"):
        StoredTextConfig().check(run(gap()))
    with pytest.raises(ConfigError, match="a held-out row of 64 tokens does not reach 8 times those of training, 128"):
        StoredTextConfig().check(text.run)
    StoredTextConfig(lengths=[1, 4]).check(text.run)


def test_a_decoding_goes_on_as_if_it_had_not_branched(tmp_path: Path) -> None:
    of = subject(gap(), tmp_path)
    torch.manual_seed(0)
    model, tokens = of.model(), torch.randint(10, 20, (3, 12), generator=torch.Generator().manual_seed(0))
    ways = StoredRecallConfig.parse(WAYS, "part").storages()
    with torch.inference_mode():
        alone, branched = (Decoding(model, 3, 12, ways) for _ in range(2))
        expected = list(alone.read(tokens))[5:]
        assert len(list(branched.read(tokens[:, :5]))) == 5
        aside = branched.branch()
        assert len(list(aside.read(tokens[:, 5:].flip(0)))) == 7
        assert torch.equal(torch.stack(list(branched.read(tokens[:, 5:]))), torch.stack(expected))
