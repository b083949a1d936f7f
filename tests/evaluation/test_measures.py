"""Recall, likelihood, state size and translation quality, on values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.data.mqar import MqarConfig
from ripstop.evaluation.efficiency import state_size
from ripstop.evaluation.likelihood import loss_per_token
from ripstop.evaluation.recall import accuracy, recall_curve
from ripstop.evaluation.translation import Translation, length_ratio, quality, write_translations
from ripstop.models.base import Model
from ripstop.models.decoder_only import DecoderOnlyConfig


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


def test_the_state_is_counted_and_agrees_with_the_formula() -> None:
    config = DecoderOnlyConfig.parse(
        {"d_model": 16, "pattern": "MA", "mixers": {"M": {"kind": "mamba2", "head_dim": 8}, "A": {"kind": "attention"}}}, "t"
    )
    counted, formula = state_size(config.build(Vocabulary(11)), config, seq_len=13)
    assert counted.value == formula.value > 0
    longer, _ = state_size(config.build(Vocabulary(11)), config, seq_len=26)
    assert longer.value - counted.value == 13 * 2 * 16 * 4  # keys and values of 13 more tokens, float32


def test_quality_is_a_statistic_of_the_corpus() -> None:
    text = "the cat sat on the mat and looked at the moon"
    other = "a dog ran far away from here"
    same = [Translation("d", "s", text, text), Translation("d", "s", other, other)]
    scores = {m.metric: m.value for m in quality(same, n_bootstrap=20)}
    assert scores["bleu"] == pytest.approx(100) and scores["chrf++"] == pytest.approx(100)
    half = [same[0], Translation("d", "s", "x y z w v u t", other)]
    scores = {m.metric: m.value for m in quality(half, n_bootstrap=20)}
    assert 20 < scores["bleu"] < 80
    assert all("signature" in m.slice for m in quality(half, n_bootstrap=20))


def test_length_ratio_counts_words() -> None:
    assert length_ratio([Translation("d", "s", "one two three", "one two"), Translation("d", "s", "", "a b")]).value == 3 / 4


def test_translations_can_be_read_back(tmp_path: Path) -> None:
    write_translations(tmp_path / "t.jsonl", [Translation("d", "q", "Größe", "„Größe“")])
    assert json.loads((tmp_path / "t.jsonl").read_text())["reference"] == "„Größe“"
