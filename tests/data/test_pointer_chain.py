"""Chains of pointers: a row by hand, and answers found by really following what the row shows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Generator

from ripstop.batch import IGNORE
from ripstop.config import ConfigError
from ripstop.data.pointer_chain import PointerChainConfig
from ripstop.data.synthetic import SEP


def config(n_nodes: int = 3, n_chains: int = 1, length: int = 2) -> PointerChainConfig:
    return PointerChainConfig(n_nodes=n_nodes, n_chains=n_chains, lengths=[length], test_lengths=[length])


def test_layout_by_hand() -> None:
    """The row of the module's docstring: 2 -> 1, 0 -> 2, 1 -> 0, two hops from 2."""
    shown = torch.tensor([[2, 1, 0, 2, 1, 0, 2]])
    for every, targets in ((True, [6, 5]), (False, [IGNORE, 5])):
        batch = config().lay_out(shown, 2, every)
        assert batch.tokens_BT.tolist() == [[1, 7, 6, 4, 5, 7, 4, 6, 5, 4, 7, 2]]
        assert batch.targets_BT.tolist() == [[IGNORE] * 10 + targets]
        assert batch.context_BT is not None and batch.context_BT.tolist() == [[False] + [True] * 9 + [False] * 2]
    assert config().n_tokens == 8


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_answers_are_where_the_pointers_lead(data: st.DataObject) -> None:
    n_nodes = data.draw(st.integers(4, 12))
    length, n_chains = data.draw(st.integers(1, n_nodes - 1)), data.draw(st.integers(1, n_nodes))
    task = config(n_nodes, n_chains, length)
    shown = task.draw(length, 5, Generator().manual_seed(data.draw(st.integers(0, 2**32))))
    batch = task.lay_out(shown, length, every=True)
    for tokens, targets in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
        context = tokens[1 : 1 + 3 * n_nodes]
        leads = dict(zip(context[::3], context[1::3], strict=True))
        assert context[2::3] == [SEP] * n_nodes
        assert len(leads) == n_nodes and sorted(leads.values()) == sorted(leads)
        begins = range(1 + 3 * n_nodes, len(tokens), length)
        assert len({tokens[begin] for begin in begins}) == n_chains
        for begin in begins:
            node, met = tokens[begin], {tokens[begin]}
            for hop in range(length):
                node = leads[node]
                assert targets[begin + hop] == node
                met.add(node)
            assert len(met) == length + 1  # no node comes twice


def test_cycles_are_uniform() -> None:
    """Each of the 6 cycles of 4 nodes is as likely as another."""
    shown = config(4).draw(2, 12_000, Generator().manual_seed(0))[:, :8]
    leads = torch.zeros(len(shown), 4, dtype=torch.long).scatter_(1, shown[:, ::2], shown[:, 1::2])
    _, counts = (leads * 4 ** torch.arange(4)).sum(1).unique(return_counts=True)
    assert len(counts) == 6 and stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_chains": 5}, "n_chains asks for 5 different starts, and n_nodes is 4"),
        ({"test_lengths": [2, 4]}, "4 hops lead around the cycle of 4 nodes; raise n_nodes"),
    ],
)
def test_chains_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PointerChainConfig.parse({"n_nodes": 4, "lengths": [2], "test_lengths": [2], **changes}, "data")
