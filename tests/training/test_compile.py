"""Compiled block by block, a training does not compile again for every length."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ripstop.batch import TokenBatch, Vocabulary
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.training.objectives.cross_entropy import cross_entropy

MIXERS = {
    "A": {"kind": "attention", "n_heads": 2},
    "M": {"kind": "mamba2", "head_dim": 8, "d_state": 4, "chunk_size": 8},
    "W": {"kind": "sliding_window", "n_heads": 2, "window_size": 8, "sink_size": 1},
}


@pytest.mark.parametrize("letter", MIXERS)
def test_blocks_share_a_graph_and_new_lengths_none(letter: str) -> None:
    """One for the first shape, one for any length, one for any number of rows: then none, and two blocks are as one."""
    torch._dynamo.reset()
    told = {"d_model": 16, "pattern": letter * 2, "mixers": MIXERS, "mlp": {"d_mlp": 16}}
    model = DecoderOnlyConfig.parse(told, "").build(Vocabulary(9))
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(1)
        return graph.forward

    for block in model.blocks():
        block.compile(backend=backend)
    counts = []
    for rows, length in [(3, 16), (3, 17), (4, 24), (4, 30), (2, 33), (3, 48)]:
        tokens_BT = torch.randint(9, (rows, length))
        cross_entropy(model, TokenBatch(tokens_BT, tokens_BT)).sum.backward()
        counts.append(len(graphs))
    assert counts == [1, 2, 3, 3, 3, 3]
