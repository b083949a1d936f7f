"""The loss is the mean over targets, and only targets cost anything."""

from __future__ import annotations

import math

import pytest
import torch
from training.tiny import VOCAB, TinyModel, TinyStream

from ripstop.batch import IGNORE, TokenBatch
from ripstop.config import ConfigError
from ripstop.training.losses import cross_entropy


def test_equals_minus_log_probability_summed_by_hand():
    model = TinyModel(dropout=0.0).double()
    batch = next(TinyStream(1))
    loss, n = cross_entropy(model, batch)
    logits_BTV = model(batch)
    by_hand = []
    for b, row in enumerate(batch.targets_BT.tolist()):
        for t, target in enumerate(row):
            if target != IGNORE:
                logits = logits_BTV[b, t].tolist()
                by_hand.append(math.log(sum(map(math.exp, logits))) - logits[target])
    assert n == len(by_hand) < batch.targets_BT.numel()
    assert loss.item() == pytest.approx(sum(by_hand) / n, rel=1e-12)


def test_uniform_logits_cost_log_of_the_vocabulary():
    model = TinyModel()
    torch.nn.init.zeros_(model.embedding.weight)  # the tied head
    assert cross_entropy(model, next(TinyStream(2)))[0].item() == pytest.approx(math.log(VOCAB), rel=1e-6)


def test_half_precision_logits_are_summed_in_float32():
    model = TinyModel(dropout=0.0).bfloat16()
    assert cross_entropy(model, next(TinyStream(1)))[0].dtype == torch.float32


def test_a_batch_without_target_is_refused():
    tokens_BT = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"shape \(2, 5\) has no target"):
        cross_entropy(TinyModel(), TokenBatch(tokens_BT, torch.full_like(tokens_BT, IGNORE)))
