"""Embedding and readout: how tables are drawn, tied, and read."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ripstop.layers.embedding import Embedding, Readout
from ripstop.layers.norms.rms_norm import RMSNormConfig

NORM = RMSNormConfig()


def test_tables_are_drawn_with_the_deviation_asked_for() -> None:
    torch.manual_seed(0)
    for weight in (Embedding(997, 31, 0.3).weight, Readout(997, 31, 0.3, NORM).head.weight):
        assert weight.std().item() == pytest.approx(0.3, rel=0.03)
        assert abs(weight.mean().item()) < 0.01


def test_a_tied_head_draws_nothing_and_learns_with_the_embedding() -> None:
    embedding = Embedding(11, 3, 0.02)
    before = embedding.weight.detach().clone()
    readout = Readout(11, 3, 0.02, NORM, embedding)
    assert readout.norm.eps == 1e-5
    assert_close(embedding.weight.detach(), before, rtol=0, atol=0)
    readout(torch.randn(2, 5, 3)).sum().backward()
    assert embedding.weight.grad is not None and embedding.weight.grad.ne(0).any()


def test_readout_at_chosen_positions() -> None:
    readout, x_BTD = Readout(11, 3, 1.0, NORM), torch.randn(2, 5, 3)
    at_BT = torch.tensor([[True, False, False, True, False], [False, False, True, False, False]])
    assert_close(readout(x_BTD, at_BT), readout(x_BTD)[[0, 0, 1], [0, 3, 2]])
    assert readout(x_BTD, torch.zeros(2, 5, dtype=torch.bool)).shape == (0, 11)
