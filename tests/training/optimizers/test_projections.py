"""Matrices by name, and the rows of what is stacked in them, for each of the model's layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ripstop.batch import Vocabulary
from ripstop.models.decoder_only import DecoderOnlyConfig
from ripstop.training.optimizers.projections import projections

MIXERS = {
    "M": {"kind": "mamba2", "head_dim": 8, "d_state": 4, "n_groups": 2},
    "W": {"kind": "sliding_window", "window_size": 3, "d_conv": 4, "n_heads": 4, "n_kv_heads": 2},
    "B": {"kind": "bidirectional", "mixer": {"kind": "mamba2", "head_dim": 8}},
}


def named(model: nn.Module) -> dict[str, list[int]]:
    names = {p: name for name, p in model.named_parameters()}
    return {names[weight]: rows for weight, rows in projections(model).items()}


def test_heads_gates_and_the_ways_into_a_recurrence() -> None:
    told = {"d_model": 16, "pattern": "MW", "mixers": MIXERS, "mlp": {"d_mlp": 24}}
    assert named(DecoderOnlyConfig.parse(told, "").build(Vocabulary(9))) == {
        "decoder.blocks.0.mixer.in_proj.weight": [8] * 4 + [8] * 4 + [4] * 4 + [4],
        "decoder.blocks.0.mixer.out_proj.weight": [16],
        "decoder.blocks.0.mlp.in_proj.weight": [24, 24],
        "decoder.blocks.0.mlp.out_proj.weight": [16],
        "decoder.blocks.1.mixer.qkv_proj.weight": [4] * 8,
        "decoder.blocks.1.mixer.out_proj.weight": [16],
        "decoder.blocks.1.mlp.in_proj.weight": [24, 24],
        "decoder.blocks.1.mlp.out_proj.weight": [16],
    }


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_are_tables(tied: bool) -> None:
    told = {"d_model": 16, "pattern": "W", "mixers": MIXERS, "tie_embeddings": tied}
    assert not {name for name in named(DecoderOnlyConfig.parse(told, "").build(Vocabulary(9))) if "mixer" not in name}


def test_what_is_frozen_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    model[0].weight.requires_grad_(False)
    assert named(model) == {"1.weight": [5]}


def test_rows_that_do_not_add_up_are_told() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(3, 7)

        def stacked_rows(self) -> dict[str, list[int]]:
            return {"proj": [4, 4]}

    with pytest.raises(ValueError, match=r"Wrong.stacked_rows: proj has 7 rows, not 8"):
        projections(nn.Sequential(Wrong()))


def test_each_layer_that_stacks_is_split() -> None:
    """A translator's: cross-attention too, and both directions of an encoder."""
    from ripstop.layers.cross_attention import CrossAttentionConfig
    from ripstop.mixers import MIXERS as KINDS

    cross = CrossAttentionConfig(n_heads=4, n_kv_heads=2).build(16)
    assert named(cross) == {"q_proj.weight": [4] * 4, "kv_proj.weight": [4] * 4, "out_proj.weight": [16]}
    both = named(KINDS.parse(MIXERS["B"]).build(16))
    assert sum(len(rows) > 1 for rows in both.values()) == 2
    assert torch.tensor([sum(rows) for rows in both.values()]).min() == 16
