"""The loss is the mean over targets, and only targets cost anything."""

from __future__ import annotations

import math

import pytest
import torch
from training.tiny import VOCAB, TinyModel, TinyStream

from ripstop.batch import IGNORE, TokenBatch
from ripstop.training.objectives.cross_entropy import cross_entropy


def test_equals_minus_log_probability_summed_by_hand():
    model = TinyModel(dropout=0.0).double()
    batch = next(TinyStream(1))
    loss = cross_entropy(model, batch)
    logits_BTV = model(batch)
    by_hand = []
    for b, row in enumerate(batch.targets_BT.tolist()):
        for t, target in enumerate(row):
            if target != IGNORE:
                logits = logits_BTV[b, t].tolist()
                by_hand.append(math.log(sum(map(math.exp, logits))) - logits[target])
    assert loss.n == batch.n_targets == len(by_hand) < batch.targets_BT.numel()
    assert loss.sum.item() == pytest.approx(sum(by_hand), rel=1e-12)


def test_uniform_logits_cost_log_of_the_vocabulary():
    model = TinyModel()
    torch.nn.init.zeros_(model.embedding.weight)  # the tied head
    loss = cross_entropy(model, next(TinyStream(2)))
    assert loss.sum.item() / loss.n == pytest.approx(math.log(VOCAB), rel=1e-6)


def test_half_precision_logits_are_summed_in_float32():
    model = TinyModel(dropout=0.0).bfloat16()
    assert cross_entropy(model, next(TinyStream(1))).sum.dtype == torch.float32


def test_a_batch_without_target_adds_nothing():
    tokens_BT = torch.zeros(2, 5, dtype=torch.int64)
    model = TinyModel()
    loss = cross_entropy(model, TokenBatch(tokens_BT, torch.full_like(tokens_BT, IGNORE)))
    loss.sum.backward()
    assert (loss.sum.item(), loss.n, loss.metrics["accuracy"].item()) == (0.0, 0, 0.0)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_accuracy_is_the_part_of_targets_that_are_most_likely():
    """Rows of logits: the first and the last position are right, the second is wrong, the third has no target."""

    class Fixed(TinyModel):
        def forward(self, batch: TokenBatch, at_BT: torch.Tensor | None = None) -> torch.Tensor:
            logits_BTV = torch.tensor([[[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]], [[2.0, 0.0, 1.0], [0.0, 1.0, 5.0]]])
            return logits_BTV if at_BT is None else logits_BTV[at_BT]

    batch = TokenBatch(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[1, 0], [IGNORE, 2]]))
    loss = cross_entropy(Fixed(), batch)
    assert loss.n == 3 and set(loss.metrics) == {"accuracy"}
    assert loss.metrics["accuracy"].item() == pytest.approx(2 / 3)
    assert not loss.metrics["accuracy"].requires_grad
