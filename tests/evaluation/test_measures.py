"""Recall, likelihood and state size on values worked out by hand, and what each part asks of a run."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.data import DATA
from ripstop.data.base import RowLength
from ripstop.data.documents import DocumentsConfig
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation import PARTS
from ripstop.evaluation.base import PartConfig
from ripstop.evaluation.likelihood import LikelihoodConfig, loss_per_token
from ripstop.evaluation.recall import RecallConfig, accuracy, recall_curve
from ripstop.evaluation.state_size import StateSizeConfig, state_size
from ripstop.evaluation.translation import TranslationConfig
from ripstop.models.base import Model, ModelConfig
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig

TRANSLATION = TranslationConfig.parse({"generation": {"max_new_tokens": 4, "eos": 2}}, "t")


class Reads(Model):
    """Answers a query with the value behind its key among the pairs, as perfect recall would; else with token 0."""

    def __init__(self, vocab_size: int):
        super().__init__()
        self.vocab_size = vocab_size
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        logits = torch.zeros(*batch.tokens_BT.shape, self.vocab_size)
        for b, row in enumerate(batch.tokens_BT.tolist()):
            context = row[: int(batch.context_BT[b].sum())]
            values = dict(zip(context[1::2], context[2::2], strict=True))
            for t, token in enumerate(row):
                logits[b, t, values.get(token, 0)] = 20.0
        return logits if at_BT is None else logits[at_BT]


class Constant(Model):
    """The same logits everywhere."""

    def __init__(self, logits_V: Tensor):
        super().__init__()
        self.logits_V = nn.Parameter(logits_V)

    def forward(self, batch: TokenBatch, at_BT: Tensor | None = None) -> Tensor:
        logits = self.logits_V.expand(*batch.tokens_BT.shape, -1)
        return logits if at_BT is None else logits[at_BT]


def test_accuracy_counts_target_positions_over_all_batches() -> None:
    model = Constant(torch.tensor([0.0, 3.0, 1.0]))
    batches = [
        TokenBatch(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[1, IGNORE, 2]])),
        TokenBatch(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[1, 1]])),
    ]
    assert accuracy(model, batches) == (3 / 4, 4)


def test_loss_is_a_mean_over_tokens_not_over_batches() -> None:
    model = Constant(torch.tensor([0.0, math.log(3.0)]))  # p = 1/4, 3/4
    batches = [
        TokenBatch(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[1, 1, 1]])),
        TokenBatch(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[0, IGNORE]])),
    ]
    value, n = loss_per_token(model, batches)
    assert n == 4
    assert value == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4, rel=1e-5)


def test_perfect_recall_is_perfect_with_its_own_pairs_and_near_chance_with_wrong_ones(tmp_path: Path) -> None:
    config = MqarConfig(n_keys=64, n_values=8, num_pairs=[2, 4], n_test=96)
    config.prepare(tmp_path)
    model = Reads(config.vocab_size(tmp_path))
    measured = {
        (m.slice["num_pairs"], m.slice["control"]): m.value
        for m in recall_curve(model, config, tmp_path, ["own", "wrong", "zero"], 32)
        if m.metric == "accuracy"
    }
    assert measured[2, "own"] == measured[4, "own"] == 1.0
    assert measured[2, "zero"] == measured[4, "zero"] == 0.0
    # The wrong pairs hold the key with probability n / 64, and then the right value with 1 / 8.
    assert measured[4, "wrong"] < 0.05


MIXERS = {
    "M": {"kind": "mamba2", "head_dim": 8},
    "A": {"kind": "attention"},
    "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "head_dim": 8}},
}


def test_the_state_is_counted_and_agrees_with_the_formula() -> None:
    config = DecoderOnlyConfig.parse({"d_model": 16, "pattern": "MA", "mixers": MIXERS}, "t")
    counted, formula = measured_bytes(config, RowLength(13))
    assert counted == formula > 0
    # Keys and values of 13 more tokens, float32.
    assert measured_bytes(config, RowLength(26))[0] - counted == 13 * 2 * 16 * 4


@pytest.mark.parametrize(("positions", "summary"), [([0], "none"), ([0, 1], "none"), ([], "mean"), ([], "none")])
def test_the_state_of_an_encoder_decoder_holds_its_source(positions: list[int], summary: str) -> None:
    config = EncoderDecoderConfig.parse(
        {
            "d_model": 16, "encoder_pattern": "B", "decoder_pattern": "MA", "mixers": MIXERS, "n_cross_heads": 2,
            "cross_attention_positions": positions, "source_summary": summary,
        },
        "t",
    )  # fmt: skip
    counted, formula = measured_bytes(config, RowLength(6, 13))
    assert counted == formula > 0
    # A longer source adds its keys and values in each layer that reads it, and nothing elsewhere.
    assert measured_bytes(config, RowLength(6, 23))[0] - counted == len(positions) * 10 * 2 * 16 * 4
    assert measured_bytes(config, RowLength(16, 13))[0] - counted == 10 * 2 * 16 * 4


def test_what_is_filled_stands_beside_what_is_allocated() -> None:
    """A window of 8 and a sink of 1 take their room at once; after 3 tokens 3 places hold keys and values."""
    mixers = {"W": {"kind": "sliding_window", "window_size": 8, "sink_size": 1}}
    config = DecoderOnlyConfig.parse({"d_model": 16, "pattern": "W", "mixers": mixers}, "t")
    found = {m.metric: m.value for m in state_size(config.build(Vocabulary(11)), config, RowLength(3))}
    assert found["state_bytes_filled"] == 3 * 2 * 16 * 4
    full = {m.metric: m.value for m in state_size(config.build(Vocabulary(11)), config, RowLength(40))}
    assert full["state_bytes_filled"] == full["state_bytes"] == full["state_bytes_formula"] == 9 * 2 * 16 * 4


def measured_bytes(config: ModelConfig, row: RowLength) -> tuple[float, float]:
    model = config.build(Vocabulary(11))
    found = {m.metric: m.value for m in state_size(model, config, row)}
    assert all(m.slice["seq_len"] == row.tokens for m in state_size(model, config, row))
    return found["state_bytes"], found["state_bytes_formula"]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        # BOS, 4 pairs of 2, SEP, 4 queries; as a source BOS, pairs, EOS, and the decoder reads BOS, 4 queries, EOS.
        ({"kind": "mqar", "num_pairs": [2], "test_pairs": [3, 4]}, RowLength(14)),
        ({"kind": "mqar", "num_pairs": [2], "test_pairs": [3, 4], "layout": "seq2seq"}, RowLength(6, 10)),
        ({"kind": "documents", "max_tokens": 32}, RowLength(32, 32)),
    ],
)
def test_the_state_is_measured_at_the_longest_row_unless_told(data: dict[str, Any], wanted: RowLength) -> None:
    run = SimpleNamespace(data=DATA.parse(data))
    assert StateSizeConfig()._row(run) == wanted
    assert StateSizeConfig(seq_len=7)._row(run) == RowLength(7, None if wanted.source is None else 7)


@pytest.mark.parametrize(
    ("part", "data", "message"),
    [
        (RecallConfig(), DocumentsConfig(), "recall is measured on data of kind mqar, and the run's is documents"),
        (LikelihoodConfig(), MqarConfig(num_pairs=[2]), "split 'test': data of kind mqar has no such rows to score"),
        (TRANSLATION, MqarConfig(num_pairs=[2]), "translation needs data of kind documents, and the run's is mqar"),
        (TRANSLATION.replace(generation={"max_new_tokens": 4}), DocumentsConfig(), "generation.eos: is None, .*; set 2"),
        (LikelihoodConfig(tokens_per_batch=1023), DocumentsConfig(), "1023 does not hold 2 of the longest rows, .* take 1024"),
        (LikelihoodConfig(tokens_per_batch=511, controls=["own"]), DocumentsConfig(), "does not hold 1 of the longest rows"),
    ],
)
def test_a_part_that_cannot_measure_a_run_says_so_when_it_is_planned(part: PartConfig, data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        part.check(SimpleNamespace(data=data))  # type: ignore[arg-type]


def test_parts_that_fit_are_accepted() -> None:
    documents, mqar = SimpleNamespace(data=DocumentsConfig()), SimpleNamespace(data=MqarConfig(num_pairs=[2]))
    for part, run in (
        (RecallConfig(), mqar), (StateSizeConfig(), mqar), (StateSizeConfig(), documents), (TRANSLATION, documents),
        (LikelihoodConfig(tokens_per_batch=1024), documents),
        (LikelihoodConfig(tokens_per_batch=512, controls=["own"]), documents),
    ):  # fmt: skip
        part.check(run)  # type: ignore[arg-type]


def test_parts_are_found_by_their_kind() -> None:
    for part in (RecallConfig(), StateSizeConfig(), LikelihoodConfig(), TRANSLATION):
        assert PARTS.parse(part.model_dump(mode="json")) == part
    for bad in (
        {"kind": "recall", "batch_size": 1},
        {"kind": "recall", "controls": []},
        {"kind": "likelihood", "split": "train"},
    ):
        with pytest.raises(ConfigError):
            PARTS.parse(bad)
