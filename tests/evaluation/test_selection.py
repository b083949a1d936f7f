"""What is selected, on ids worked out by hand; the luck of a random selection, against draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ripstop.batch import IGNORE, TokenBatch, Vocabulary
from ripstop.config import ConfigError
from ripstop.evaluation.selection import look, pictured, random_recall, selected, shares, sparse_layers
from ripstop.mixers.nsa import NSAConfig
from ripstop.mixers.nsa.trace import Layer, Trace
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.models.encoder_decoder import EncoderDecoderConfig

SIZES: dict[str, Any] = {
    "compress_block": 2,
    "compress_stride": 2,
    "select_block": 2,
    "n_selected": 3,
    "n_first": 1,
    "n_local": 1,
}
# 8 tokens in 4 blocks of 2, one row, one group; two blocks each.
IDS = torch.tensor([[0, -1], [0, -1], [0, 1], [0, 1], [1, 2], [2, 0], [3, 0], [3, 1]]).view(1, 8, 1, 2)


def test_the_blocks_of_each_token() -> None:
    found = selected(IDS, 2)[0, :, 0].int().tolist()
    assert found == [[1, 0, 0, 0]] * 2 + [[1, 1, 0, 0]] * 2 + [[0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
    assert selected(IDS[:, :7], 2).shape == (1, 7, 1, 4)  # a block that has begun counts


def test_shares_of_parts() -> None:
    """Two parts of 4 tokens: the second holds blocks 2 and 3."""
    assert shares(IDS, 2, 2).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert shares(IDS, 2, 4).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0.5, 0.5, 1, 0], [0.5, 0.5, 0, 1]]
    both = torch.cat([IDS, torch.full_like(IDS, -1)], 2)  # a group that selects nothing
    assert shares(both, 2, 2).tolist() == [[0.5, 0.0], [0.5, 0.5]]
    with pytest.raises(ConfigError, match="a sequence of 8 tokens has no 9 parts"):
        shares(IDS, 2, 9)


def test_what_is_recorded_of_a_trace() -> None:
    trace = Trace([Layer(IDS, torch.tensor([0.25, 0.5, 1.0]), None), Layer(IDS, torch.tensor([0.0, 0.5, 0.75]), None)])
    found = list(pictured(trace, [NSAConfig(**SIZES)] * 2, 2))
    gates = [(m.slice["layer"], m.slice["branch"], m.value) for m in found if m.metric == "gate"]
    assert gates[:3] == [(0, "compressed", 0.25), (0, "selected", 0.5), (0, "window", 1.0)] and gates[3][2] == 0.0
    parts = [(m.slice["query_part"], m.slice["key_part"], m.value) for m in found if m.metric == "selected_share"]
    assert parts == [(0, 0, 1.0), (1, 0, 1.0), (1, 1, 1.0)] * 2


def test_luck_by_hand() -> None:
    """Of 3 blocks the first and the last are forced, so that one is free."""
    mixer = NSAConfig(**SIZES)
    # 20 tokens are 10 blocks: 8 to draw from; 4 tokens are 2 blocks, both forced; 6 are 3, of which all are read
    found = random_recall(mixer, torch.tensor([0, 1, 2, 17, 18, 3, 3]), torch.tensor([20, 20, 20, 20, 20, 4, 6]))
    assert found.tolist() == [1, 1, 1 / 8, 1 / 8, 1, 1, 1]
    # in the middle of a block the asking token's own is the last
    assert random_recall(mixer, torch.tensor([16, 17]), torch.tensor([19, 17])).tolist() == [1 / 8, 1]


def test_luck_is_what_a_random_selection_comes_to() -> None:
    generator, mixer, n_blocks = np.random.default_rng(0), NSAConfig(**SIZES | {"n_selected": 5, "n_local": 2}), 12
    drawn = [{0, 10, 11, *generator.choice(np.arange(1, 10), 2, replace=False)} for _ in range(20_000)]
    counted = [np.mean([block in blocks for blocks in drawn]) for block in range(n_blocks)]
    formula = random_recall(mixer, 2 * torch.arange(n_blocks), torch.tensor(2 * n_blocks))
    assert formula.tolist() == pytest.approx(counted, abs=0.012)


def model_config(pattern: str) -> DecoderOnlyConfig:
    mixers = {"N": {"kind": "nsa", "n_heads": 2, "window_size": 2, **SIZES}, "A": {"kind": "attention", "n_heads": 2}}
    return DecoderOnlyConfig.parse({"d_model": 8, "pattern": pattern, "mixers": mixers}, "model")


def test_layers_are_those_that_select() -> None:
    assert len(sparse_layers(model_config("ANA"))) == 1 and sparse_layers(model_config("AA")) == []
    values = {
        "d_model": 8,
        "encoder_pattern": "B",
        "decoder_pattern": "A",
        "cross_attention_positions": [0],
        "n_cross_heads": 1,
    }
    mixers = {"A": {"kind": "attention", "n_heads": 2}, "B": {"kind": "attention", "n_heads": 2, "causal": False}}
    with pytest.raises(ConfigError, match="this model is encoder_decoder"):
        sparse_layers(EncoderDecoderConfig.parse(values | {"mixers": mixers}, "model"))


def test_a_look_sees_every_layer_at_every_token() -> None:
    model = model_config("NAN").build(Vocabulary(5)).eval()
    tokens_BT = torch.randint(5, (2, 11))
    trace = look(model, TokenBatch(tokens_BT, torch.full_like(tokens_BT, IGNORE)))
    assert [tuple(layer.ids_BTGn.shape) for layer in trace.layers] == [(2, 11, 2, 3)] * 2
    for layer in trace.layers:
        marked = selected(layer.ids_BTGn, 2)
        assert bool(marked[:, :, :, 0].all())  # the first is forced
        assert bool((marked.sum(-1) <= 3).all())
